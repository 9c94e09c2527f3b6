#!/usr/bin/env python3
"""bench/ppl.py: perplexity beside llama.cpp's, on the same text and the same chunks.

Both cut the text the same way (tokenised once, -c tokens a chunk, the second half scored), so that the two figures differ by the
arithmetic alone; more than --tolerance apart is a failure (exit status 1).

    bench/ppl.py --peer-dir ~/llama.cpp/build --model smollm2.gguf --text novel.txt --chunks 20
"""

import argparse
import os
import re

import harness as h


def parse_args():
    parser = argparse.ArgumentParser(description="Perplexity of sluice and of llama.cpp.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", required=True, help="a text file of at least two chunks")
    parser.add_argument("--peer-dir", required=True, help="folder of a llama.cpp build")
    parser.add_argument("--sluice", default="./sluice", help="our program (default ./sluice)")
    parser.add_argument("-c", type=int, default=512, help="tokens a chunk (default 512)")
    parser.add_argument("--chunks", type=int, default=20, help="chunks, 0 for all (default 20)")
    parser.add_argument("-t", type=int, default=h.default_threads())
    parser.add_argument("--tolerance", type=float, default=0.5, help="per cent (default 0.5)")
    parser.add_argument("--peer-setting", default="", help="further flags for llama.cpp, such as '--no-repack -fa off'")
    parser.add_argument("--json", metavar="FILE", help="results as JSON, - for stdout instead of the table")
    return h.parse_args(parser, "--peer-setting")


def peer_perplexity(program, args):
    argv = [program, "-m", args.model, "-f", args.text, "-c", str(args.c), "-t", str(args.t)] + args.peer_setting.split()
    result = h.run(argv + (["--chunks", str(args.chunks)] if args.chunks else []))
    match = re.search(r"Final estimate: PPL = ([\d.]+) \+/- ([\d.]+)", result.stdout + result.stderr)
    if result.status != 0 or not match:
        raise h.BenchError(result.failed())
    return float(match[1]), float(match[2]), result.wall_s


def sluice_perplexity(program, args):
    argv = ["perplexity", "-m", args.model, "-f", args.text, "-c", str(args.c), "-t", str(args.t)]
    value, result = h.sluice(program, argv + (["--chunks", str(args.chunks)] if args.chunks else []))
    return value["perplexity"], value["tokens_scored"], result.wall_s


def main():
    args = parse_args()
    h.check_file(args.model)
    h.check_file(args.text)
    program = h.find_program(args.sluice)
    peer, = h.find_peer(args.peer_dir, "llama-perplexity")
    theirs, error, their_s = peer_perplexity(peer, args)
    ours, scored, our_s = sluice_perplexity(program, args)
    apart = 100 * (ours / theirs - 1)
    kept = abs(apart) <= args.tolerance
    if args.json != "-":
        print(f"{os.path.basename(args.model)}, {os.path.basename(args.text)}, -c {args.c}, {args.chunks or 'all'} chunks, "
              f"{scored} tokens scored\n")
        h.print_table(["", "perplexity", "whole run"],
                      [["llama.cpp", f"{theirs:.4f} ± {error:.4f}", f"{their_s:.1f} s"], ["sluice", f"{ours:.4f}", f"{our_s:.1f} s"],
                       ["apart", f"{apart:+.3f} % ({'within' if kept else 'MORE THAN'} {args.tolerance} %)", ""]])
    h.report_json(args.json, {"machine": h.machine(), "model": args.model, "text": args.text, "chunks": args.chunks, "context": args.c,
                              "peer_perplexity": theirs, "peer_standard_error": error, "perplexity": ours, "tokens_scored": scored,
                              "apart_percent": apart})
    return 0 if kept else 1


if __name__ == "__main__":
    h.main_guard(main)
