#!/usr/bin/env python3
"""bench/plan.py: what `sluice plan` predicts against what `sluice run` then measures: speed and peak memory, model by model, budget by budget, link by link.

Each --model is STOCK or STOCK:PACKED, the latter packed and calibrated: dense decoding takes the stock file, the others the packed one. Links are
throttled, so that any disk will do. How many tokens are drafted and accepted depends on the text alone, so drafts are first run in memory: what plan
says of a draft's and of a check's time is taken times their counts. All else plan has to know by itself. Runs last about --seconds each.

    bench/plan.py --model smollm2.gguf:smollm2.packed.gguf --model wide.gguf:wide.packed.gguf
    bench/plan.py --model smollm2.gguf:smollm2.packed.gguf --peaks          # memory alone, which other work does not disturb
    bench/plan.py --again results.json                                      # nothing is run: what plan says now of runs that --json kept
"""

import argparse
import json
import os
import statistics

import harness as h

PROMPT = "The weather in the north of the country was"
MODES = {"dense": ["--draft", "0"],
         "fine": ["--sparsity", "fine", "--density", "0.5"],
         "sirius": ["--sparsity", "fine", "--density", "0.5", "--draft", "4", "--drafter", "model"]}
ATTEMPTS = 3


def parse_args():
    parser = argparse.ArgumentParser(description="Predictions of plan against measurements.")
    parser.add_argument("--model", action="append", help="STOCK or STOCK:PACKED; may be given several times")
    parser.add_argument("--again", metavar="FILE", help="predict the runs anew that --json wrote there, and run nothing")
    parser.add_argument("--sluice", default="./sluice", help="our program (default ./sluice)")
    parser.add_argument("--modes", default="dense,fine,sirius", help="(default dense,fine,sirius)")
    parser.add_argument("--throttles", default="100M,300M,1G", help="(default 100M,300M,1G)")
    parser.add_argument("--budgets", type=int, default=4, help="budgets between the smallest that works and all of the model (default 4)")
    parser.add_argument("--seconds", type=float, default=5, help="of decoding, about, in each run (default 5)")
    parser.add_argument("-c", type=int, default=128, help="context (default 128)")
    parser.add_argument("--peaks", action="store_true", help="peak memory alone: short runs over one link, and no wait for a quiet machine")
    parser.add_argument("--machine", help="a machine file (default: this machine, as doctor measured it)")
    parser.add_argument("--json", metavar="FILE", help="results as JSON, - for stdout instead of the table")
    args = parser.parse_args()
    if (args.model is None) == (args.again is None):
        parser.error("either --model or --again")
    return args


def base(args, model):
    return ["-m", model, "-c", str(args.c)]


def run(program, args, model, flags, tokens):
    return h.sluice(program, ["run"] + base(args, model) + flags + ["-p", PROMPT, "-n", str(tokens), "--temp", "0", "--ignore-eos"])


def plan(program, args, model, flags):
    machine = ["--machine", args.machine] if args.machine else []
    value, _ = h.sluice(program, ["plan"] + base(args, model) + flags + machine)
    return value


def budgets(program, args, model, flags):
    """From a little above the smallest budget to a little below what holds everything, in MiB."""
    least = plan(program, args, model, flags + ["--ram-budget", "64G"])
    low = least["ram_budget_min_bytes"] >> 20
    high = low + (sum(least["placement"][part]["bytes"] for part in ("attention", "ffn", "head")) >> 20)
    shares = [0.15 + 0.7 * i / max(1, args.budgets - 1) for i in range(args.budgets)]
    return [int(low + share * (high - low)) for share in shares]


def counts(program, args, model, flags, known, tokens):
    """(drafted tokens, checks), in memory: the text, and so these, are the same under any budget."""
    key = (model, tokens)
    if key not in known:
        drafts = run(program, args, model, flags, tokens)[0]["sirius"]
        known[key] = (drafts["drafted"], drafts["checks"])
    return known[key]


def predicted_speed(value, tokens, drafted_and_checks):
    if drafted_and_checks is None:
        return value["predicted"]["decode_tokens_per_s"]
    drafted, checks = drafted_and_checks
    return tokens / (drafted * value["drafts"]["draft_s"] + checks * value["drafts"]["check_s"])


def flags_of(mode, budget, throttle):
    return MODES[mode] + ["--throttle", throttle, "--ram-budget", f"{budget}M"]


def measure(program, args, model, mode, budget, throttle, known):
    flags = flags_of(mode, budget, throttle)
    value = plan(program, args, model, flags)
    predicted, best = value["predicted"], None
    tokens = 1 + (20 if args.peaks else max(16 if mode == "sirius" else 4, min(24, int(args.seconds * predicted["decode_tokens_per_s"]))))
    drafts = counts(program, args, model, MODES[mode], known, tokens) if mode == "sirius" else None
    speed = predicted_speed(value, tokens - 1, drafts)
    for _ in range(1 if args.peaks else ATTEMPTS):  # the one that others disturbed least
        again = run(program, args, model, flags, tokens)
        best = again if best is None or again[1].foreign_share < best[1].foreign_share else best
        if best[1].foreign_share <= h.FOREIGN_SHARE_MAX:
            break
    value = best[0]
    measured = value["timings"]["decode_tokens_per_s"]
    return {"model": model, "mode": mode, "budget_mib": budget, "throttle": throttle, "tokens": tokens - 1, "drafted_and_checks": drafts, "predicted": speed, "measured": measured,
            "ratio": speed / measured, "limit": predicted["limit"], "foreign_share": best[1].foreign_share,
            "predicted_token_bytes": predicted["token_bytes"], "measured_token_bytes": value["io"]["decode_bytes_read"] / (tokens - 1),
            "predicted_peak": predicted["peak_ram_bytes"], "measured_peak": value["memory"]["peak_rss_bytes"]}


def predict_again(program, args, row):
    value = plan(program, args, row["model"], flags_of(row["mode"], row["budget_mib"], row["throttle"]))
    speed = predicted_speed(value, row["tokens"], row["drafted_and_checks"])
    return row | {"predicted": speed, "ratio": speed / row["measured"], "limit": value["predicted"]["limit"],
                  "predicted_token_bytes": value["predicted"]["token_bytes"], "predicted_peak": value["predicted"]["peak_ram_bytes"]}


def share_within(rows, far):
    return sum(1 / (1 + far) <= row["ratio"] <= 1 + far for row in rows) / len(rows)


def print_rows(rows):
    h.print_table(["model", "mode", "budget", "link", "tokens", "predicted t/s", "measured", "ratio", "MB a token, predicted / measured", "peak MiB, predicted / measured"],
                  [[os.path.basename(r["model"]), r["mode"], f"{r['budget_mib']} MiB", r["throttle"], r["tokens"], f"{r['predicted']:.3g}", f"{r['measured']:.3g}",
                    f"{r['ratio']:.2f}", f"{r['predicted_token_bytes'] / 1e6:.1f} / {r['measured_token_bytes'] / 1e6:.1f}",
                    f"{r['predicted_peak'] / 2**20:.1f} / {r['measured_peak'] / 2**20:.1f} ({r['predicted_peak'] / r['measured_peak'] - 1:+.1%})"] for r in rows])


def print_shares(rows, args):
    print(f"\n{h.machine()}\n")
    disturbed = sum(row["foreign_share"] > h.FOREIGN_SHARE_MAX for row in rows)
    if disturbed and not args.peaks:
        print(f"in {disturbed} runs others took more than {h.FOREIGN_SHARE_MAX:.0%} of the processors, in each of {ATTEMPTS} attempts: their speeds say little\n")
    for mode in sorted({row["mode"] for row in rows}) if not args.peaks else []:
        some = [row for row in rows if row["mode"] == mode]
        print(f"{mode}: {len(some)} cases, within 25 %: {share_within(some, 0.25):.0%}, within 10 %: {share_within(some, 0.1):.0%}, "
              f"median ratio {statistics.median(row['ratio'] for row in some):.3f}")
    peaks = [row["predicted_peak"] / row["measured_peak"] - 1 for row in rows]
    if not args.peaks:
        print(f"all: {len(rows)} cases, within 25 %: {share_within(rows, 0.25):.0%}, within 10 %: {share_within(rows, 0.1):.0%}")
    print(f"{len(rows)} cases: peak memory {min(peaks):+.1%} to {max(peaks):+.1%}, {sum(peak < 0 for peak in peaks)} below what was measured")


def main():
    args = parse_args()
    program = h.find_program(args.sluice)
    rows, known = [], {}
    if args.again:
        with open(args.again, encoding="utf-8") as file:
            rows = [predict_again(program, args, row) for row in json.load(file)["rows"]]
    for pair in args.model or []:
        stock, _, packed = pair.partition(":")
        for mode in args.modes.split(","):
            model = stock if mode == "dense" else packed
            if not model:
                continue
            h.check_file(model)
            for budget in budgets(program, args, model, MODES[mode]):
                for throttle in ["1G"] if args.peaks else args.throttles.split(","):
                    row = measure(program, args, model, mode, budget, throttle, known)
                    h.progress(f"{os.path.basename(model)} {mode} {budget} MiB {throttle}: {row['predicted']:.3g} / {row['measured']:.3g} t/s")
                    rows.append(row)
    if not rows:
        raise h.BenchError("nothing was measured: fine and sirius need a packed file, STOCK:PACKED")
    if args.json != "-":
        print_rows(rows)
        print_shares(rows, args)
    h.report_json(args.json, {"machine": h.machine(), "rows": rows})
    return 0


if __name__ == "__main__":
    h.main_guard(main)
