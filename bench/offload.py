#!/usr/bin/env python3
"""bench/offload.py: decode speed of a model that is larger than its memory, against llama.cpp and against the disk.

For each memory size, five times over: llama.cpp decodes after a 64-token prompt, fio reads the model file as sluice does (same request
size and depth, registered buffers), sluice decodes, and fio reads again, the better of the two being the disk's bandwidth; after each fio the
io_uring tier of sluice reads alone in the same way, because fio may be the slower reader. llama.cpp and sluice run in a memory cgroup of that size, after the model's pages have been dropped. Runs beside which others computed are repeated.

Three ratios answer three questions: sluice / peer (is it faster?), the bytes that sluice streams per token over fio's
bandwidth (how near the disk's limit is it?), and file / streamed bytes (what is the best ratio that keeping the rest can give against a
program that reads the whole file for each token?).

llama.cpp runs with mmap and without repacking: with repacking it is killed in a cgroup smaller than the model. Its page cache lies
in the cgroup too, that is the memory it has. It decodes --peer-n tokens only, because each costs a whole read of the file.

Neither ratio can pass its bound: a share of the bandwidth well above 100 %, or a gain above file / streamed, says that fio or llama.cpp
was held back by something, and a line below the table says so.

    sudo bench/offload.py --peer-dir ~/llama.cpp/build --model 7b-q4_0.gguf --ram 2G,3G
"""

import argparse
import os
import re

import harness as h


def parse_args():
    parser = argparse.ArgumentParser(description="Decode under a memory limit: sluice, llama.cpp and fio in turn.")
    parser.add_argument("--model", required=True, help="GGUF file, larger than the smallest --ram")
    parser.add_argument("--ram", default="2G,3G", help="memory sizes, comma-separated (default 2G,3G)")
    parser.add_argument("--peer-dir", help="folder of a llama.cpp build; without it only sluice and fio run")
    parser.add_argument("--sluice-model", help="the file that sluice and fio read, where it is not --model: the same model, packed")
    parser.add_argument("--sluice", default="./sluice", help="our program (default ./sluice)")
    parser.add_argument("--rounds", type=int, default=5, help="alternations (default 5)")
    parser.add_argument("-n", type=int, default=32, help="tokens that sluice decodes (default 32)")
    parser.add_argument("--peer-n", type=int, default=8, help="tokens that llama.cpp decodes (default 8; the first belongs to the prompt)")
    parser.add_argument("-c", type=int, default=512, help="context (default 512)")
    parser.add_argument("-t", type=int, default=h.default_threads(), help="threads of both (default: all processors)")
    parser.add_argument("--depth", type=int, default=32, help="fio's queue depth where sluice does not report its own (default 32)")
    parser.add_argument("--fio-rw", choices=["read", "randread"], default="read", help="fio's pattern (default read)")
    parser.add_argument("--fio-seconds", type=int, default=5)
    parser.add_argument("--sluice-args", default="", help="further flags for sluice, one string (without --draft in it: a pass for each token, as the limits mean it)")
    parser.add_argument("--json", metavar="FILE", help="results as JSON, - for stdout instead of the table")
    return h.parse_args(parser, "--sluice-args")


def peer_decode(program, args, limit_bytes):
    """Tokens per second that llama.cpp decodes with after the prompt, and the Run."""
    h.drop_pages(args.model)
    argv = [program, "-m", args.model, "-f", args.prompt, "-n", str(args.peer_n), "-c", str(args.c), "-t", str(args.t),
            "--load-mode", "mmap", "--no-repack", "--temp", "0", "--ignore-eos", "-no-cnv", "--no-warmup", "--perf"]
    with h.Cgroup(limit_bytes) as cgroup:
        result = h.run(argv, cgroup)
    # "eval time =     312.45 ms /     7 runs   (" and not "prompt eval time = … / 64 tokens"
    match = re.search(r"(?<!prompt )eval time =\s+([\d.]+) ms /\s+(\d+) runs", result.stderr + result.stdout)
    if result.status != 0 or not match or int(match[2]) == 0:
        raise h.BenchError(result.failed())
    return int(match[2]) / (float(match[1]) / 1000), result


def sluice_decode(program, args, limit_bytes):
    h.drop_pages(args.sluice_model)
    argv = ["run", "-m", args.sluice_model, "-f", args.prompt, "-n", str(args.n), "-c", str(args.c), "-t", str(args.t), "--temp", "0",
            "--ignore-eos", "--ram-budget", str(limit_bytes)] + args.sluice_args.split()
    if "--draft" not in argv:
        argv += ["--draft", "0"]
    with h.Cgroup(limit_bytes) as cgroup:
        return h.sluice(program, argv, cgroup)


def streamed_per_token(value):
    """Bytes read per decoded token: the passes are what the rate and the time say, so that the first token's prompt pass stays out."""
    passes = value["timings"]["decode_tokens_per_s"] * value["timings"]["decode_s"]
    return value["io"]["decode_bytes_read"] / passes if passes else 0


def disk_bandwidth(args, block, depth):
    """Bytes per second as fio reads the file, and as our tier alone does."""
    by_fio = h.undisturbed(lambda: h.fio(args.sluice_model, block, depth, args.fio_seconds, args.fio_rw))[0]
    return by_fio, h.undisturbed(lambda: tier_bandwidth(args, block, depth))[0]


def tier_bandwidth(args, block, depth):
    rows, result = h.sluice(args.sluice, ["bench", "--io", args.sluice_model, "--io-engine", "uring", "--io-order", "sequential", "--io-size", str(block),
                                          "--io-depth", str(depth), "--io-seconds", str(args.fio_seconds)])
    return rows[0]["bytes_per_s"], result


def doubts(result):
    """What no sound measurement would show."""
    found = []
    share, where = result["figures"]["disk_share"].median, h.mib(result["ram_bytes"])
    if share > 105:
        found.append(f"{where}: sluice read {share:.0f} % of what fio calls the disk's bandwidth: fio was not at the limit, its share means nothing")
    if result["share_of_that"] and result["share_of_that"] > 1.05:
        found.append(f"{where}: the gain is above file / streamed: llama.cpp read slower than the disk allows, not only more")
    return found


def measure(program, peer, args, limit_bytes):
    file_bytes = os.path.getsize(args.model)
    h.progress(f"{h.mib(limit_bytes)}: probing request size")
    probe, _ = sluice_decode(program, args, limit_bytes)
    block = max(4096, int(probe["io"]["request_bytes_mean"]) // 4096 * 4096)
    depth = int(probe["io"].get("depth", args.depth))
    expected = probe["tokens"]
    rows = {"fio": h.Figures("GB/s"), "peer": h.Figures("t/s", 3), "sluice": h.Figures("t/s", 3), "ratio": h.Figures("x"),
            "disk_share": h.Figures("%", 1), "tier": h.Figures("GB/s"), "tier_share": h.Figures("%", 1), "rss": h.Figures("MiB", 0), "cgroup": h.Figures("MiB", 0)}
    for index in range(args.rounds):
        peer_rate = h.undisturbed(lambda: peer_decode(peer, args, limit_bytes))[0] if peer else None
        before = disk_bandwidth(args, block, depth)
        value, result = h.undisturbed(lambda: sluice_decode(program, args, limit_bytes))
        bandwidth, tier = map(max, before, disk_bandwidth(args, block, depth))
        rows["fio"].add(bandwidth / 1e9)
        rate = value["timings"]["decode_tokens_per_s"]
        if value["tokens"] != expected:
            raise h.BenchError(f"round {index + 1}: sluice gave other tokens than in the probe: the result is void")
        rows["sluice"].add(rate)
        if peer:
            rows["peer"].add(peer_rate)
            rows["ratio"].add(rate / peer_rate)
        rows["disk_share"].add(100 * streamed_per_token(value) * rate / bandwidth)
        if tier:
            rows["tier"].add(tier / 1e9)
            rows["tier_share"].add(100 * streamed_per_token(value) * rate / tier)
        rows["rss"].add(result.max_rss_bytes / h.MIB)
        rows["cgroup"].add(result.cgroup_peak_bytes / h.MIB)
        h.progress(f"{h.mib(limit_bytes)} round {index + 1}: fio {bandwidth / 1e9:.2f}, tier {tier / 1e9:.2f} GB/s, peer "
                   f"{peer_rate or float('nan'):.3f}, sluice {rate:.3f} t/s")
    streamed = streamed_per_token(value)
    # A budget that holds everything streams nothing: then there is no limit to compare with.
    limit = file_bytes / streamed if streamed > 0 else None
    return {"ram_bytes": limit_bytes, "file_bytes": file_bytes, "streamed_bytes_per_token": streamed, "request_bytes": block,
            "depth": depth, "file_over_streamed": limit, "share_of_that": rows["ratio"].median / limit if peer and limit else None,
            "figures": rows}


def main():
    args = parse_args()
    h.forbid_core_files()
    lock = h.lock_machine()  # noqa: F841, held until the end
    h.check_file(args.model)
    args.model = os.path.abspath(args.model)
    args.sluice_model = os.path.abspath(h.check_file(args.sluice_model)) if args.sluice_model else args.model
    args.prompt = os.path.join(h.HERE, "prompt_64.txt")
    program = h.find_program(args.sluice)
    peer = h.find_peer(args.peer_dir, "llama-completion")[0] if args.peer_dir else None
    for path in filter(None, (program, peer)):
        h.run([path, "--help"])  # its own pages and its libraries' are in memory before a cgroup is charged for them
    results = [measure(program, peer, args, h.parse_size(size)) for size in args.ram.split(",")]

    if args.json != "-":
        print(f"{os.path.basename(args.model)}, {h.mib(os.path.getsize(args.model))}; {h.machine()}; {args.rounds} rounds, "
              "median (min..max)\n")
        head = ["memory", "fio", "llama.cpp", "sluice", "sluice / llama.cpp", "streamed a token", "of fio's bandwidth", "our tier alone", "of that",
                "file / streamed", "of that", "peak RSS", "cgroup's peak"]
        h.print_table(head, [[h.mib(r["ram_bytes"]), r["figures"]["fio"], r["figures"]["peer"], r["figures"]["sluice"],
                              r["figures"]["ratio"], h.mib(r["streamed_bytes_per_token"]), r["figures"]["disk_share"], r["figures"]["tier"], r["figures"]["tier_share"],
                              f"{r['file_over_streamed']:.2f}" if r["file_over_streamed"] else "-",
                              f"{100 * r['share_of_that']:.0f} %" if r["share_of_that"] else "-", r["figures"]["rss"],
                              r["figures"]["cgroup"]] for r in results])
        print(f"\nfio: {args.fio_rw}, {results[0]['request_bytes']} bytes, depth {results[0]['depth']}, O_DIRECT, io_uring, registered.")
        for doubt in sum(map(doubts, results), []):
            print(f"\nDOUBTFUL: {doubt}.")
    for result in results:
        result["figures"] = {name: figures.as_json() for name, figures in result["figures"].items()}
    h.report_json(args.json, {"machine": h.machine(), "model": args.model, "threads": args.t, "rows": results})
    return 0


if __name__ == "__main__":
    h.main_guard(main)
