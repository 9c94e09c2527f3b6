#!/usr/bin/env python3
"""bench/inmemory.py: speed with enough memory, against llama.cpp at its best setting.

Prefill of 64 and of 512 tokens, and decode of 64 tokens after a prompt of 64, per model; llama.cpp and sluice in turn. llama.cpp's best
setting is looked for first, with short runs: repacked weights or not, flash attention or not; what wins is named in the table, per row.
The model's pages are dropped before each run, as everywhere here, but neither figure contains the loading: llama-bench warms up
first, and sluice loads its weights before the prompt when they all fit.

    bench/inmemory.py --peer-dir ~/llama.cpp/build --model smollm2.gguf --model 7b-q4_0.gguf
"""

import argparse
import json
import os

import harness as h

DECODE = 64


def parse_args():
    parser = argparse.ArgumentParser(description="Prefill and decode with enough memory: sluice and llama.cpp in turn.")
    parser.add_argument("--model", action="append", required=True, help="GGUF file; may be given several times")
    parser.add_argument("--peer-dir", required=True, help="folder of a llama.cpp build")
    parser.add_argument("--sluice", default="./sluice", help="our program (default ./sluice)")
    parser.add_argument("--rounds", type=int, default=5, help="alternations (default 5)")
    parser.add_argument("-t", type=int, default=h.default_threads(), help="threads of both (default: all processors)")
    parser.add_argument("--ram-budget", help="sluice's budget (default: its own, 0.8 of what is available)")
    parser.add_argument("--bench-pass", default="build/bench/bench_pass", help="the program that times our passes (make bench builds it)")
    parser.add_argument("--peer-setting", help="llama.cpp's flags, such as '--repack 1 -fa on'; without it the best of four is searched")
    parser.add_argument("--sluice-args", default="", help="further flags for sluice, one string")
    parser.add_argument("--prompts", default="64,512", help="tokens of the prefills (default 64,512)")
    parser.add_argument("--json", metavar="FILE", help="results as JSON, - for stdout instead of the table")
    args = h.parse_args(parser, "--peer-setting", "--sluice-args")
    try:
        args.prompts = [int(n) for n in args.prompts.split(",")]
    except ValueError:
        parser.error(f"--prompts {args.prompts}: write numbers, as in 64,512")
    return args


def llama_bench(peer, model, threads, flags):
    """Rows of one llama-bench call: [(settings, tokens per second)]."""
    def once():
        result = h.run([peer, "-m", model, "-t", str(threads), "-r", "1", "-o", "json"] + flags)
        if result.status != 0:
            raise h.BenchError(result.failed())
        return json.loads(result.stdout), result

    return h.undisturbed(once)[0]


def best_settings(peer, model, threads):
    """llama.cpp's fastest flags for prefill and for decode: {'prefill': [...], 'decode': [...]}."""
    best = {}
    for kind, flags in (("prefill", ["-p", "64", "-n", "0"]), ("decode", ["-p", "0", "-n", "16", "-d", "64"])):
        rates = {}
        for repack in ("1", "0"):
            for attention in ("on", "off"):
                setting = ("--repack", repack, "-fa", attention)
                try:
                    rates[setting] = llama_bench(peer, model, threads, flags + list(setting))[0]["avg_ts"]
                except h.BenchError as error:  # some of its builds crash in one of them
                    h.progress(f"{' '.join(setting)} is left out: {error}")
        if not rates:
            raise h.BenchError(f"{model}: llama.cpp runs with none of its settings")
        best[kind] = max(rates, key=rates.get)
    return best


def peer_round(peer, model, threads, prompts, best):
    h.drop_pages(model)
    rates = {}
    prefill = llama_bench(peer, model, threads, ["-p", ",".join(map(str, prompts)), "-n", "0"] + list(best["prefill"]))
    for row in prefill:
        rates[f"prefill {row['n_prompt']}"] = row["avg_ts"]
    decode = llama_bench(peer, model, threads, ["-p", "0", "-n", str(DECODE), "-d", "64"] + list(best["decode"]))
    rates[f"decode {DECODE}"] = decode[0]["avg_ts"]
    return rates


def sluice_prefill(bench_pass, model, prompts):
    """Tokens per second of passes of as many rows as the prompts have, weights in memory already, as llama-bench measures after its warm-up."""
    def once():
        result = h.run([bench_pass, model, "", "1", str(max(prompts))])
        if result.status != 0:
            raise h.BenchError(result.failed())
        return result.stdout, result

    table, _ = h.undisturbed(once)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")][1:]
    if ", 0.00 GB of them streamed" not in table:
        raise h.BenchError(f"{model}: it does not fit the default budget: {table.splitlines()[0]}")
    return {f"prefill {row[0]}": float(row[3]) for row in rows if int(row[0]) in prompts}


def sluice_round(program, model, args):
    h.drop_pages(model)
    rates = sluice_prefill(args.bench_pass, model, args.prompts)
    argv = ["run", "-m", model, "-f", os.path.join(h.HERE, "prompt_64.txt"), "-n", str(DECODE + 1), "-c", "1024", "-b", "512",
            "-t", str(args.t), "--temp", "0", "--ignore-eos"] + args.sluice_args.split()
    if args.ram_budget:
        argv += ["--ram-budget", args.ram_budget]
    value, _ = h.undisturbed(lambda: h.sluice(program, argv))
    if value["io"]["decode_bytes_read"] > 16 * h.MIB:
        raise h.BenchError(f"{model}: {h.mib(value['io']['decode_bytes_read'])} were streamed in decode: this budget does not hold it")
    rates[f"decode {DECODE}"] = value["timings"]["decode_tokens_per_s"]
    return rates


def measure(program, peer, model, args):
    given = args.peer_setting.split() if args.peer_setting else None
    h.progress(os.path.basename(model) + ("" if given else ": looking for llama.cpp's best setting"))
    best = {"prefill": given, "decode": given} if given else best_settings(peer, model, args.t)
    names = [f"prefill {n}" for n in args.prompts] + [f"decode {DECODE}"]
    figures = {name: {"peer": h.Figures("t/s"), "sluice": h.Figures("t/s"), "ratio": h.Figures("x")} for name in names}
    for index in range(args.rounds):
        theirs = peer_round(peer, model, args.t, args.prompts, best)
        ours = sluice_round(program, model, args)
        for name in names:
            figures[name]["peer"].add(theirs[name])
            figures[name]["sluice"].add(ours[name])
            figures[name]["ratio"].add(ours[name] / theirs[name])
        h.progress(f"round {index + 1}: " + ", ".join(f"{name} {ours[name]:.2f}/{theirs[name]:.2f}" for name in names))
    return [{"model": model, "what": name, "peer_setting": " ".join(best["decode" if "decode" in name else "prefill"]),
             "figures": figures[name]} for name in names]


def main():
    args = parse_args()
    lock = h.lock_machine()  # noqa: F841, held until the end
    program = h.find_program(args.sluice)
    peer, = h.find_peer(args.peer_dir, "llama-bench")
    results = []
    for model in args.model:
        results += measure(program, peer, os.path.abspath(h.check_file(model)), args)
    if args.json != "-":
        print(f"{h.machine()}; {args.t} threads, {args.rounds} rounds, median (min..max)\n")
        h.print_table(["model", "what", "llama.cpp", "its setting", "sluice", "sluice / llama.cpp"],
                      [[os.path.basename(r["model"]), r["what"], r["figures"]["peer"], r["peer_setting"], r["figures"]["sluice"],
                        r["figures"]["ratio"]] for r in results])
    for result in results:
        result["figures"] = {name: figures.as_json() for name, figures in result["figures"].items()}
    h.report_json(args.json, {"machine": h.machine(), "threads": args.t, "rows": results})
    return 0


if __name__ == "__main__":
    h.main_guard(main)
