#!/usr/bin/env python3
"""bench/coarse.py: does --sparsity coarse do what was published? Perplexity against an independent NumPy run.

GRIFFIN (arXiv 2404.01365), which Sirius calls coarse: the first half of each chunk is a dense prompt; each of its rows is scaled to length one,
a neuron's score is the length of its column, and the neurons with the largest scores alone take part in the second half, which is scored.
The same density in every layer. scripts/oracle.py is the model. The exit status is 1 when a perplexity is more than 0.5 % apart.

    bench/coarse.py --model smollm2.gguf --text novel.txt       # needs: pip install numpy gguf
"""

import argparse
import os
import sys

import harness as h

sys.path.insert(0, os.path.join(h.HERE, "..", "scripts"))

BOUND = 0.005


def parse_args():
    parser = argparse.ArgumentParser(description="Coarse sparsity against NumPy.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--sluice", default="./sluice", help="our program (default ./sluice)")
    parser.add_argument("--densities", default="0.7,0.5")
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("-c", type=int, default=512)
    parser.add_argument("--json", metavar="FILE", help="results as JSON, - for stdout instead of the table")
    return parser.parse_args()


def coarse_neurons(numpy, prompt_rows, density):
    """What the oracle does to the activations of a layer."""
    def keep_set(_, z):
        prompt = z[:prompt_rows]
        norms = numpy.linalg.norm(prompt, axis=1, keepdims=True)
        score = numpy.linalg.norm(prompt / numpy.where(norms > 0, norms, 1), axis=0)
        kept = numpy.argsort(-score, kind="stable")[: int(z.shape[1] * density + 1e-6)]
        mask = numpy.zeros(z.shape[1])
        mask[kept] = 1
        return numpy.vstack([prompt, z[prompt_rows:] * mask])
    return keep_set


def oracle_perplexity(oracle, numpy, file, chunks, density):
    nll = []
    for tokens in chunks:
        half = len(tokens) // 2
        neurons = coarse_neurons(numpy, half, density) if density < 1 else lambda _, z: z
        logits = oracle.logits_of(file, numpy.array(tokens[:-1]), neurons)[half:]
        peak = logits.max(axis=-1, keepdims=True)
        total = peak[:, 0] + numpy.log(numpy.exp(logits - peak).sum(axis=-1))
        nll.extend(total - logits[numpy.arange(len(logits)), tokens[half + 1:]])
    return float(numpy.exp(numpy.mean(nll)))


class Kept(dict):
    """Dequantised tensors, kept: every chunk asks for all of them."""

    def __init__(self, file):
        super().__init__()
        self.read, file.tensor = file.tensor, self.__getitem__

    def __missing__(self, name):
        self[name] = self.read(name)
        return self[name]


def main():
    args = parse_args()
    import numpy
    import oracle
    program = h.find_program(args.sluice)
    tokens = h.sluice(program, ["tokenize", "-m", h.check_file(args.model), "-f", h.check_file(args.text), "--no-parse-special"])[0]["tokens"]
    chunks = [tokens[i * args.c:(i + 1) * args.c] for i in range(args.chunks)]
    file = oracle.File(args.model)
    Kept(file)
    rows, good = [], True
    for density in [1.0] + [float(word) for word in args.densities.split(",")]:
        flags = [] if density == 1 else ["--sparsity", "coarse", "--density", str(density), "--uniform-density"]
        ours = h.sluice(program, ["perplexity", "-m", args.model, "-f", args.text, "-c", str(args.c), "--chunks", str(args.chunks)] + flags)[0]
        theirs = oracle_perplexity(oracle, numpy, file, chunks, density)
        apart = ours["perplexity"] / theirs - 1
        good &= abs(apart) <= BOUND
        rows.append({"density": density, "sluice": ours["perplexity"], "numpy": theirs, "apart": apart})
        h.progress(f"density {density}: sluice {ours['perplexity']:.3f}, NumPy {theirs:.3f}")
    if args.json != "-":
        h.print_table(["density", "sluice", "NumPy", "apart", "over dense"],
                      [[r["density"], f"{r['sluice']:.3f}", f"{r['numpy']:.3f}", f"{100 * r['apart']:+.2f} %",
                        f"{r['sluice'] / rows[0]['sluice']:.3f}"] for r in rows])
    h.report_json(args.json, {"machine": h.machine(), "rows": rows})
    return 0 if good else 1


if __name__ == "__main__":
    h.main_guard(main)
