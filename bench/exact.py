#!/usr/bin/env python3
"""bench/exact.py: the same tokens, whatever the budget, threads, engine, batch or instruction set.

Greedy decoding of every prompt in prompts.txt, once with the defaults and then once with each other setting; a single differing
token is a failure (exit status 1). Scalar kernels are slow, so with them only the first --scalar-n tokens are compared.

    bench/exact.py --model smollm2.gguf                       # 20 prompts x 128 tokens, every setting
    bench/exact.py --model 7b-q4_0.gguf --prompts 1 -n 32     # a large model
    bench/exact.py --model smollm2.gguf --settings 1-6        # a part of it; the defaults run each time, to compare with
    bench/exact.py --model smollm2.gguf --device cuda         # the processor's tokens, wherever a device's weights and caches lie
"""

import argparse
import os
import subprocess

import harness as h


def parse_args():
    parser = argparse.ArgumentParser(description="Tokens across budgets, threads, engines, batches and instruction sets.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--sluice", default="./sluice", help="our program (default ./sluice)")
    parser.add_argument("--prompts", type=int, default=20, help="how many of prompts.txt (default 20)")
    parser.add_argument("-n", type=int, default=128, help="tokens a prompt (default 128)")
    parser.add_argument("-c", type=int, default=512, help="context (default 512)")
    parser.add_argument("--scalar-n", type=int, default=4, help="tokens compared with scalar kernels (default 4; 0: leave it out)")
    parser.add_argument("--scalar-prompts", type=int, default=3, help="prompts compared with scalar kernels (default 3)")
    parser.add_argument("--settings", metavar="FIRST-LAST", default="1-999", help="which lines of the table, 1 the first (default: all)")
    parser.add_argument("--device", help="compare placements on this device with the processor's tokens, such as cuda or emulated")
    parser.add_argument("--json", metavar="FILE", help="results as JSON, - for stdout instead of the table")
    args = parser.parse_args()
    first, _, last = args.settings.partition("-")
    if not (first.isdigit() and (last or first).isdigit()):
        parser.error(f"--settings {args.settings}: write FIRST-LAST, as in 1-6")
    args.slice = slice(int(first) - 1, int(last or first))
    return args


def generate(program, args, prompt, n, flags):
    value, _ = h.sluice(program, ["run", "-m", args.model, "-p", prompt, "-n", str(n), "-c", str(args.c), "--temp", "0",
                                  "--ignore-eos"] + flags)
    return value["tokens"]


def smallest_budget(program, args, flags, key):
    """What a run that cannot fit says would do."""
    value, result = h.sluice(program, ["run", "-m", args.model, "-p", "x", "-n", "1", "-c", str(args.c)] + flags, may_fail=True)
    if result.status != 3:
        raise h.BenchError(f"{' '.join(flags)} gave exit status {result.status}, not 3")
    return value["error"][key]


def placements(program, args):
    """[(name, flags, tokens, prompts)] on a device: what it holds, from nothing to all, where the rest comes from, and who computes it."""
    device = ["--device", args.device]
    vram = smallest_budget(program, args, [*device, "--vram-budget", "64K"], "vram_budget_min_bytes")
    high = os.path.getsize(args.model)
    half = [*device, "--vram-budget", str(vram + max(0, high - vram) // 2)]
    ram = smallest_budget(program, args, [*half, "--ram-budget", "1M"], "ram_budget_min_bytes")
    low = ["--ram-budget", str(ram + max(0, high - ram) // 4)]
    rows = [("all on the device", device)]
    rows += [(f"--vram-budget {h.mib(vram)} (the minimum)", [*device, "--vram-budget", str(vram)])]
    rows += [(f"--vram-budget {h.mib(int(half[-1]))}", half)]
    rows += [("-ngl 0", [*half, "-ngl", "0"]), ("--cpu-share 1", [*half, "--cpu-share", "1"]), ("--kv-host all", [*half, "--kv-host", "all"])]
    rows += [(f"--ram-budget {h.mib(int(low[-1]))}", [*half, *low]), ("-b 1", [*half, "-b", "1"])]
    rows += [("--draft 4 --drafter lookup", [*half, "--draft", "4", "--drafter", "lookup"])]
    rows += [("all at once", [*half, *low, "--kv-host", "1", "--cpu-share", "0.5", "-b", "7", "--draft", "4", "--drafter", "lookup"])]
    return [(f"{name}, half of it there" if index > 2 else name, flags, args.n, args.prompts) for index, (name, flags) in enumerate(rows)]


def settings(program, args):
    """[(name, flags, tokens, prompts)]: one thing changed at a time, then everything at once."""
    if args.device:
        return placements(program, args)
    low = smallest_budget(program, args, ["--ram-budget", "1M"], "ram_budget_min_bytes")
    high = os.path.getsize(args.model)
    rows = [("default again", [])]
    # The minimum depends on the batch and the threads too; a little above it holds for the defaults.
    for share in (0, 0.25, 0.5, 0.75):
        budget = low + int(share * max(0, high - low))
        rows.append((f"--ram-budget {h.mib(budget)}" + (" (the minimum)" if share == 0 else ""), ["--ram-budget", str(budget)]))
    half = ["--ram-budget", str(low + max(0, high - low) // 2)]
    rows += [(f"-t {n}", ["-t", str(n)]) for n in (1, 2, 3)]
    rows += [(f"--io-engine {name}, half the memory", ["--io-engine", name] + half) for name in ("uring", "pread")]
    rows += [("--buffered, half the memory", ["--buffered"] + half)]
    rows += [(f"-b {n}", ["-b", str(n)]) for n in (1, 7, 64, 512)]
    version = subprocess.run([program, "--version"], check=True, capture_output=True, encoding="utf-8").stdout
    usable = next(line for line in version.splitlines() if line.startswith("instruction sets usable here:"))
    sets = [name for name in usable.split(":")[1].split() if name != "scalar"]
    rows += [(f"--isa {name}", ["--isa", name]) for name in sets]
    if sets:
        rows.append(("all at once", ["--isa", sets[0], "-t", "3", "-b", "7", "--io-engine", "pread", *half]))
    rows = [(name, flags, args.n, args.prompts) for name, flags in rows]
    if args.scalar_n:
        rows.append(("--isa scalar", ["--isa", "scalar"], args.scalar_n, min(args.prompts, args.scalar_prompts)))
    return rows


def main():
    args = parse_args()
    h.check_file(args.model)
    program = h.find_program(args.sluice)
    with open(os.path.join(h.HERE, "prompts.txt"), encoding="utf-8") as file:
        prompts = file.read().splitlines()[: args.prompts]
    h.progress(f"the defaults, {len(prompts)} prompts x {args.n} tokens")
    expected = [generate(program, args, prompt, args.n, []) for prompt in prompts]
    results, wrong = [], 0
    for name, flags, n, count in settings(program, args)[args.slice]:
        differing = []
        for index, prompt in enumerate(prompts[:count]):
            got, want = generate(program, args, prompt, n, flags), expected[index][:n]
            if got != want:
                at = next((i for i, pair in enumerate(zip(got, want)) if pair[0] != pair[1]), min(len(got), len(want)))
                differing.append({"prompt": index + 1, "token": at})
        wrong += len(differing)
        results.append({"setting": name, "prompts": min(count, len(prompts)), "tokens": n, "differing": differing})
        h.progress(f"{name}: {'identical' if not differing else differing}")
    if args.json != "-":
        print(f"{os.path.basename(args.model)}; {h.machine()}; greedy\n")
        h.print_table(["setting", "prompts x tokens", "result"],
                      [[r["setting"], f"{r['prompts']} x {r['tokens']}",
                        "identical" if not r["differing"] else f"DIFFERS: {r['differing']}"] for r in results])
    h.report_json(args.json, {"machine": h.machine(), "model": args.model, "rows": results, "tokens": expected})
    return 1 if wrong else 0


if __name__ == "__main__":
    h.main_guard(main)
