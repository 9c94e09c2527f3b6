#!/usr/bin/env python3
"""bench/sirius.py: what drafts bring: mean advance by drafter, length and density, equality with plain decoding, and speed under a budget.

Every prompt is decoded plainly (--draft 0), then with each drafter. Under --accept exact a single differing token is a failure (exit status 1).
With --ram-budget each drafted run has a plain one of its own just before it, because a disk's speed drifts: the ratio is formed within the pair.
Mean advance is tokens per check, over all checks of all prompts. A text that repeats itself flatters every drafter: prompts whose plain text
ends in a loop are left out of the means, and counted.

    bench/sirius.py --model smollm2.gguf                                        # 22 chat prompts x 256 tokens, lookup and coarse 0.5
    bench/sirius.py --model smollm2.gguf --lengths 8 --trees 2,3,4,best         # trees beside chains
    bench/sirius.py --model smollm2.gguf --prompts 2 -n 64 --lengths 4,8 --densities 0.5,0.7
    bench/sirius.py --model 7b.gguf --ram-budget 2G -c 512 -n 64 --no-sparse    # speed of the default against plain decoding
    bench/sirius.py --model packed.gguf --ram-budget 3G --no-sparse --memory    # the neurons that stay in memory draft, too
"""

import argparse
import os
import statistics

import harness as h

PERIOD_MAX = 48  # tokens of a loop
LOOP_TOKENS = 96  # at the end of a text, which repeat
PLAIN = ["--draft", "0"]


def parse_args():
    parser = argparse.ArgumentParser(description="Drafts and dense checks: advance, equality, speed.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--sluice", default="./sluice", help="our program (default ./sluice)")
    parser.add_argument("--file", default=os.path.join(h.HERE, "chat_prompts.txt"), help="prompts, one a line (default chat_prompts.txt)")
    parser.add_argument("--prompts", type=int, default=1000, help="how many of them (default: all)")
    parser.add_argument("--prose", action="store_true", help="the prompts are texts to go on with, not messages")
    parser.add_argument("-n", type=int, default=256, help="tokens a prompt (default 256)")
    parser.add_argument("-c", type=int, default=512, help="context (default 512)")
    parser.add_argument("--temp", default="0", help="temperature, with seed 1 (default 0)")
    parser.add_argument("--lengths", default="4,8", help="drafted tokens (default 4,8)")
    parser.add_argument("--densities", default="0.5", help="of --sparsity coarse (default 0.5)")
    parser.add_argument("--sparsity", default="coarse", help="who drafts beside lookups: coarse or fine (default coarse)")
    parser.add_argument("--trees", default="", help="also trees: widths, and best for best first, such as 2,3,best (default: none)")
    parser.add_argument("--tree-rows", default="16,24", help="of best first (default 16,24)")
    parser.add_argument("--tree-depth", default="6", help="of a constant width (default 6)")
    parser.add_argument("--tau", default="", help="also --accept threshold with these, such as 0.1 (default: none)")
    parser.add_argument("--no-sparse", action="store_true", help="lookups and the default only")
    parser.add_argument("--memory", action="store_true", help="also drafts from what stays in memory of a packed file, under --ram-budget")
    parser.add_argument("--auto", action="store_true", help="also let lengths be chosen by measured times")
    parser.add_argument("--ram-budget", default="", help="for all runs, such as 2G (default: none, all in memory)")
    parser.add_argument("--flags", default="", help="further flags for all runs, such as \"--throttle 500M\"")
    parser.add_argument("--json", metavar="FILE", help="results as JSON, - for stdout instead of the table")
    return h.parse_args(parser, "--flags")


def trees(args):
    """[(shape, flags)]"""
    shapes = []
    for tree in filter(None, args.trees.split(",")):
        if tree == "best":
            shapes += [(f"best of {rows}", ["--tree", "best", "--tree-rows", rows]) for rows in args.tree_rows.split(",")]
        else:
            shapes.append((f"{tree} wide, {args.tree_depth} deep", ["--tree", tree, "--draft", args.tree_depth]))
    return shapes


def ways(args):
    """[(drafter, length, flags)]"""
    lengths = args.lengths.split(",")
    rows = [("lookup", n, ["--draft", n, "--drafter", "lookup"]) for n in lengths]
    if args.auto or args.no_sparse:
        rows.append(("lookup", "auto", ["--draft", "auto"]))
    if args.memory:
        rows += [("memory", n, ["--draft", n, "--drafter", "model"]) for n in lengths]
        rows += [("memory, tree", shape, flags + ["--drafter", "model"]) for shape, flags in trees(args)]
    if args.no_sparse:
        return rows
    for density in args.densities.split(","):
        sets = ["--sparsity", args.sparsity, "--density", density]
        name = f"{args.sparsity} {density}"
        rows += [(name, n, sets + ["--draft", n, "--drafter", "model"]) for n in lengths]
        rows += [(f"{name}, lookup", n, sets + ["--draft", n]) for n in lengths]
        rows += [(f"{name}, {who}", shape, sets + flags + ["--drafter", drafter])
                 for shape, flags in trees(args) for who, drafter in (("tree", "model"), ("tree, lookup", "mixed"))]
        if args.auto:
            rows.append((f"{name}, lookup", "auto", sets + ["--draft", "auto"]))
        for tau in filter(None, args.tau.split(",")):
            rows += [(f"{name}, tau {tau}", n, sets + ["--draft", n, "--drafter", "model", "--accept", "threshold", "--tau", tau])
                     for n in lengths]
            rows += [(f"{name}, tree, tau {tau}", shape, sets + flags + ["--drafter", "model", "--accept", "threshold", "--tau", tau])
                     for shape, flags in trees(args)]
    return rows


def loops(tokens):
    """Whether the text's end is one short piece again and again."""
    end = tokens[-LOOP_TOKENS:]
    return len(end) == LOOP_TOKENS and any(all(end[i] == end[i - period] for i in range(period, len(end)))
                                           for period in range(1, PERIOD_MAX + 1))


def generate(program, args, prompt, flags):
    argv = ["run", "-m", args.model, "-p", prompt, "-n", str(args.n), "-c", str(args.c), "--temp", args.temp, "-s", "1"]
    argv += [] if args.prose else ["--chat"]
    argv += ["--ram-budget", args.ram_budget] if args.ram_budget else []
    value, _ = h.sluice(program, argv + args.flags.split() + flags)
    return value


def measure(program, args, way, prompts, plain):
    """One line of the table."""
    drafter, length, flags = way
    checks = advance = drafted = accepted = looping = read = 0
    differing, ratios = [], []
    for index, prompt in enumerate(prompts):
        beside = generate(program, args, prompt, PLAIN) if args.ram_budget else plain[index]
        value = generate(program, args, prompt, flags)
        drafts = value["sirius"]
        if drafts["accept"] == "exact" and value["tokens"] != plain[index]["tokens"]:
            differing.append(index + 1)
        if loops(plain[index]["tokens"]):
            looping += 1
            continue
        checks += drafts["checks"]
        advance += drafts["checks"] + drafts["accepted"]
        drafted += drafts["drafted"]
        accepted += drafts["accepted"]
        read += drafts["bytes_per_check"] * drafts["checks"]
        ratios.append(value["timings"]["decode_tokens_per_s"] / beside["timings"]["decode_tokens_per_s"])
    return {"drafter": drafter, "length": length, "checks": checks, "rows_mean": (checks + drafted) / checks if checks else None,
            "advance_mean": advance / checks if checks else None,
            "accepted_share": accepted / drafted if drafted else None, "bytes_per_check": read / checks if checks else None,
            "speed_median": statistics.median(ratios) if ratios else None, "speeds": ratios, "looping": looping, "differing": differing}


def shown(value, form):
    return "" if value is None else format(value, form)


def shown_speed(row):
    if not row["speeds"]:
        return ""
    return f"{row['speed_median']:.2f} x ({min(row['speeds']):.2f} to {max(row['speeds']):.2f})"


def main():
    args = parse_args()
    h.check_file(args.model)
    program = h.find_program(args.sluice)
    with open(h.check_file(args.file), encoding="utf-8") as file:
        prompts = file.read().splitlines()[: args.prompts]
    h.progress(f"plain decoding, {len(prompts)} prompts x {args.n} tokens")
    plain = [generate(program, args, prompt, PLAIN) for prompt in prompts]
    rows = []
    for way in ways(args):
        rows.append(measure(program, args, way, prompts, plain))
        row = rows[-1]
        h.progress(f"{row['drafter']}, {row['length']}: advance {shown(row['advance_mean'], '.2f')}, speed {shown(row['speed_median'], '.2f')} x, "
                   + ("identical" if not row["differing"] else f"DIFFERS: {row['differing']}"))
    speed = statistics.median(value["timings"]["decode_tokens_per_s"] for value in plain)
    if args.json != "-":
        print(f"{os.path.basename(args.model)}; {h.machine()}; temperature {args.temp}; plain {speed:.2f} t/s"
              f"{', budget ' + args.ram_budget if args.ram_budget else ''}; {rows[0]['looping']} of {len(prompts)} prompts loop and are left out\n")
        h.print_table(["drafter", "drafted", "checks", "rows a check", "mean advance", "accepted", "MB a check", "speed over plain", "text"],
                      [[r["drafter"], r["length"], r["checks"], shown(r["rows_mean"], ".1f"), shown(r["advance_mean"], ".2f"), shown(r["accepted_share"], ".0%"), shown(r["bytes_per_check"] and r["bytes_per_check"] / 1e6, ".1f"),
                        shown_speed(r),
                        "lossy" if "tau" in r["drafter"] else "identical" if not r["differing"] else f"DIFFERS: {r['differing']}"]
                       for r in rows])
    h.report_json(args.json, {"machine": h.machine(), "model": args.model, "plain_tokens_per_s": speed, "rows": rows})
    return 1 if any(row["differing"] for row in rows) else 0


if __name__ == "__main__":
    h.main_guard(main)
