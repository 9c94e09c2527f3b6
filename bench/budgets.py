#!/usr/bin/env python3
"""bench/budgets.py: is the budget kept? Peak resident memory and the kernel's own account of it, from the smallest budget up.

The smallest budget is what the program itself names when it refuses one. From there up to a little more than the whole model needs, the
budgets grow evenly; each run has a memory cgroup of its own, without a limit, so that going over shows and is not prevented.
Two peaks are held against the budget: ru_maxrss of the process, and the cgroup's, which adds page tables, kernel memory and page cache.
The exit status is 1 when any is above, or when a budget changes the tokens.

    sudo bench/budgets.py --model smollm2.gguf
"""

import argparse
import os

import harness as h


def parse_args():
    parser = argparse.ArgumentParser(description="Peak memory against --ram-budget, from the minimum up.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--sluice", default="./sluice", help="our program (default ./sluice)")
    parser.add_argument("--count", type=int, default=20, help="how many budgets (default 20)")
    parser.add_argument("-n", type=int, default=16, help="tokens a run (default 16)")
    parser.add_argument("-c", type=int, default=512, help="context (default 512)")
    parser.add_argument("--sluice-args", default="", help="further flags for sluice, one string")
    parser.add_argument("--json", metavar="FILE", help="results as JSON, - for stdout instead of the table")
    return h.parse_args(parser, "--sluice-args")


def generate(program, args, budget, may_fail=False):
    argv = ["run", "-m", args.model, "-f", os.path.join(h.HERE, "prompt_64.txt"), "-n", str(args.n), "-c", str(args.c), "--temp", "0",
            "--ignore-eos", "--ram-budget", str(budget)] + args.sluice_args.split()
    h.drop_pages(args.model)
    with h.Cgroup() as cgroup:
        return h.sluice(program, argv, cgroup, may_fail=may_fail)


def main():
    args = parse_args()
    h.check_file(args.model)
    program = h.find_program(args.sluice)
    h.run([program, "--help"])  # its own pages and its libraries' are in memory before a cgroup is charged for them
    refused, result = generate(program, args, h.MIB, may_fail=True)
    if result.status != 3:
        raise h.BenchError(f"a budget of 1 MiB gave exit status {result.status}, not 3")
    low = refused["error"]["ram_budget_min_bytes"]
    high = int(max(os.path.getsize(args.model) + low, low * 1.2))
    rows, expected, bad = [], None, 0
    for index in range(args.count):
        budget = low + (high - low) * index // max(1, args.count - 1)
        value, result = generate(program, args, budget)
        expected = expected or value["tokens"]
        row = {"budget_bytes": budget, "rss_bytes": result.max_rss_bytes, "cgroup_bytes": result.cgroup_peak_bytes,
               "said_rss_bytes": value["memory"]["peak_rss_bytes"], "resident_weight_bytes": value["memory"]["resident_weight_bytes"],
               "decode_tokens_per_s": value["timings"]["decode_tokens_per_s"], "same_tokens": value["tokens"] == expected}
        row["kept"] = max(row["rss_bytes"], row["cgroup_bytes"]) <= budget
        bad += not (row["kept"] and row["same_tokens"])
        rows.append(row)
        h.progress(f"{budget / h.MIB:.1f} MiB: RSS {row['rss_bytes'] / h.MIB:.1f}, cgroup {row['cgroup_bytes'] / h.MIB:.1f}"
                   + ("" if row["kept"] else " ABOVE") + ("" if row["same_tokens"] else " OTHER TOKENS"))
    if args.json != "-":
        print(f"{os.path.basename(args.model)}; {h.machine()}; -c {args.c}; smallest budget {low / h.MIB:.1f} MiB\n")
        h.print_table(["budget MiB", "peak RSS MiB", "cgroup's peak MiB", "resident weights MiB", "decode t/s", "budget kept", "same tokens"],
                      [[f"{r['budget_bytes'] / h.MIB:.1f}", f"{r['rss_bytes'] / h.MIB:.1f}", f"{r['cgroup_bytes'] / h.MIB:.1f}",
                        f"{r['resident_weight_bytes'] / h.MIB:.1f}", f"{r['decode_tokens_per_s']:.2f}", "yes" if r["kept"] else "NO",
                        "yes" if r["same_tokens"] else "NO"] for r in rows])
    h.report_json(args.json, {"machine": h.machine(), "model": args.model, "minimum_bytes": low, "rows": rows})
    return 1 if bad else 0


if __name__ == "__main__":
    h.main_guard(main)
