#!/usr/bin/env python3
"""What pruning costs: perplexity over the dense model's, time and peak memory, for each method and rate.

    bench/prune.py --model models/SmolLM2-135M-Instruct.Q4_1.gguf --calibrate emma.txt --text persuasion.txt

Prunes into a temporary folder (`--folder`), measures, deletes. Prints a Markdown table row by row, so that a run that is cut off has shown what it knows. `--only 0.5,3:4`
picks rates, `--methods` methods, `--layers A-B` some layers (of a wide model), `--no-perplexity` leaves time and memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

METHODS = "magnitude", "wanda", "sparsegpt", "sparsellm"
RATES = ["--density", "0.5"], ["--density", "0.3"], ["--density", "0.2"], ["--pattern", "3:4"], ["--pattern", "2:4"]
NEURONS = (
    ("magnitude", ["--no-refit"]),
    ("sparsegpt", ["--no-refit"]),
    ("sparsegpt", []),
    ("wanda", []),
)  # fmt: skip


def call(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip().splitlines()[-1:]}")
    return json.loads(done.stdout)


def perplexity(args, model):
    if args.no_perplexity:
        return float("nan")
    command = [args.sluice, "perplexity", "-m", model, "-f", args.text, "-c", "512", "--json"]
    return call(command + (["--chunks", str(args.chunks)] if args.chunks else []))["perplexity"]


def jobs(args):
    for rate in RATES:
        for method in METHODS:
            yield method, rate, f"{method} {rate[1]}"
    for share in ("0.8", "0.7"):
        for method, more in NEURONS:
            yield method, ["--neurons", share, *more], f"{method} {share} of the neurons{', no refit' if more else ', refit'}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sluice", default="./sluice")
    parser.add_argument("--model", required=True)
    parser.add_argument("--calibrate", required=True, help="text to calibrate on")
    parser.add_argument("--text", required=True, help="text to measure")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--chunks", type=int, default=20, help="of 512 tokens; 0: the whole text")
    parser.add_argument("--type", default="F16")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--only", help="rates, such as 0.5,3:4,0.8")
    parser.add_argument("--layers")
    parser.add_argument("--rates", help="of densities: layer or global")
    parser.add_argument("--ram-budget")
    parser.add_argument("--folder", default=tempfile.gettempdir())
    parser.add_argument("--no-perplexity", action="store_true")
    args = parser.parse_args()

    dense = perplexity(args, args.model)
    out = os.path.join(args.folder, f"sluice-prune-{os.getpid()}.gguf")
    print(f"dense perplexity {dense:.3f}; {args.tokens} tokens of calibration, {args.chunks or 'all'} chunks measured, type {args.type}\n")
    print("| method | perplexity | over dense | zeros | seconds | peak memory / budget, MiB |\n|---|---|---|---|---|---|")
    for method, rate, name in jobs(args):
        if method not in args.methods.split(",") or (args.only and rate[1] not in args.only.split(",")):
            continue
        command = [args.sluice, "prune", "-m", args.model, "-o", out, "-f", args.calibrate, "--method", method, "--tokens", str(args.tokens)]
        command += [*rate, "--type", args.type, "--force", "--json"]
        command += ["--layers", args.layers] if args.layers else []
        command += ["--rates", args.rates] if args.rates and rate[0] == "--density" else []
        command += ["--ram-budget", args.ram_budget] if args.ram_budget else []
        try:
            made = call(command)
            found = perplexity(args, out)
        finally:
            if os.path.exists(out):
                os.unlink(out)
        memory = f"{made['peak_rss_bytes'] / 2**20:.0f} / {made['ram_budget_bytes'] / 2**20:.0f}"
        print(f"| {name} | {found:.3f} | {found / dense:.3f} x | {made['zeros_share']:.4f} | {made['seconds']:.1f} | {memory} |", flush=True)


if __name__ == "__main__":
    main()
