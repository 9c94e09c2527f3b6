#!/usr/bin/env python3
"""bench/retrieval.py: what SparQ still finds in long texts. Facts are planted at ten depths between paragraphs of a text, and asked for behind it.

A text has ten facts, no two alike; each is asked for in turn, and found where greedy decoding would give all of its answer. The text is a dense prompt, the
same for all ten; from the question's last token on, rows attend with SparQ. What counts are items that dense attention finds, and of them the share that
SparQ still finds, by share of the keys' and values' bytes that it reads (as the program counts them): --shares of a text of each length, single keys and
whole pages. The exit status is 1 when a share is below its --targets.

    bench/retrieval.py --model smollm2.gguf --text novel.txt
"""

import argparse
import json
import os
import random
import tempfile

import harness as h

WORDS = ("violin lantern compass ladder teapot anchor basket mirror whistle hammer candle blanket saddle kettle umbrella telescope necklace "
         "trumpet barrel feather notebook scarf pillow clock bucket shovel ribbon helmet drum wallet").split()
# What is planted, each once in a text, and what is asked: the question is the fact's beginning, so that going on means having found it.
FACTS = ("The password for the garden gate is", "The magic word of the old wizard is", "My grandmother's favourite object was the", "The robot in the museum is called",
         "The winning ticket has a picture of a", "The secret ingredient of the soup is a", "The spy hid the documents inside the", "The first thing the diver found was a",
         "The symbol on the blue flag is a", "The shop at the harbour sells only one thing, the")
ROOM = 64  # tokens that a question and its answer want beyond the text


def parse_args():
    parser = argparse.ArgumentParser(description="Facts found in long texts with SparQ, of those that dense attention finds.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", required=True, help="a text file that the facts are planted in")
    parser.add_argument("--sluice", default="./sluice", help="our program (default ./sluice)")
    parser.add_argument("--lengths", default="2048,4096,8192", help="of a text and its question, in tokens (default 2048,4096,8192)")
    parser.add_argument("--texts", type=int, default=3, help="of each length, ten facts each (default 3)")
    parser.add_argument("--select", default="keys,pages", help="(default keys,pages)")
    parser.add_argument("--shares", default="0.25,0.125", help="of dense attention's bytes (default 0.25,0.125)")
    parser.add_argument("--targets", default="0.95,0.9", help="of the facts that dense attention finds, by share (default 0.95,0.9)")
    parser.add_argument("--dense-only", action="store_true", help="only which facts dense attention finds")
    parser.add_argument("-t", type=int, default=h.default_threads())
    parser.add_argument("--json", metavar="FILE", help="results as JSON, - for stdout instead of the table")
    return parser.parse_args()


# ---------------------------------------------------------------- texts


def paragraphs_of(program, args):
    """(paragraphs, bytes a token) of the text."""
    with open(h.check_file(args.text), encoding="utf-8") as file:
        text = file.read()
    tokens = len(h.sluice(program, ["tokenize", "-m", h.check_file(args.model), "-f", args.text, "--no-parse-special"])[0]["tokens"])
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()], len(text) / tokens


def plant(paragraphs, start, characters, facts):
    """So many characters of paragraphs from `start` on, with the facts between them, the first near the beginning and the last near the end."""
    parts, used, planted = [], 0, 0
    index = start
    while used < characters:
        while planted < len(facts) and used >= characters * (planted + 0.5) / len(facts):
            parts.append(facts[planted])
            used += len(facts[planted])
            planted += 1
        parts.append(paragraphs[index % len(paragraphs)][:characters - used + 1])
        used += len(parts[-1]) + 1
        index += 1
    return "\n".join(parts + facts[planted:]) + "\n", index


def items_of(args, length, paragraphs, bytes_per_token):
    """Items of one length, those of a text one after the other."""
    pick, items, start = random.Random(length), [], 40
    for number in range(args.texts):
        questions, answers = pick.sample(FACTS, len(FACTS)), pick.sample(WORDS, len(FACTS))
        facts = [f"{question} {answer}." for question, answer in zip(questions, answers)]
        # Lines are joined, so that a token has more characters than in the file; a little room is left, for no two texts have as many tokens.
        text, start = plant(paragraphs, start, int((length - ROOM) * bytes_per_token * 1.03), facts)
        items += [{"kind": f"text {number}", "context": text + question, "continuation": " " + answer, "depth": depth, "length": length}
                  for depth, (question, answer) in enumerate(zip(questions, answers))]
    return items


# ---------------------------------------------------------------- runs


def answers(program, args, items, mode, flags):
    """(right or not of each item, the mode's figures)."""
    with tempfile.TemporaryDirectory() as folder:
        tasks, out = os.path.join(folder, "facts.jsonl"), os.path.join(folder, "out.jsonl")
        with open(tasks, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({key: item[key] for key in ("kind", "context", "continuation")}) + "\n" for item in items)
        value = h.sluice(program, ["eval", "-m", args.model, tasks, "--modes", mode, "-o", out, "-t", str(args.t)] + flags)[0]
        with open(out, encoding="utf-8") as file:
            right = [json.loads(line)[mode]["right"] for line in file]
    return right, dict(value["modes"][0], context=value["context"])


def settings(select, share, positions, head_dim):
    """SparQ's flags that read about this share of what dense attention reads of so many positions, in f16."""
    if select == "pages":  # components of four bits of all keys, a scale of two bytes for each 32 of them, whole pages and half of the last one
        components = int(head_dim * (share / 2 + 0.125))
        pages = int((share - (components / 2 + head_dim / 16) / (4 * head_dim)) * positions / 64 + 0.6)
        return ["--sparq-k", str(64 * pages), "--sparq-r", str(components), "--sparq-local", "16", "--sparq-select", "pages"]
    # half of it for some components of all keys, half for keys and values
    return ["--sparq-k", str(int(share / 2 * positions)), "--sparq-r", str(int(share * head_dim))]


def head_dim_of(program, args):
    metadata = h.sluice(program, ["info", args.model])[0]
    facts = metadata["metadata"]
    arch = facts["general.architecture"]
    return facts.get(f"{arch}.attention.key_length") or facts[f"{arch}.embedding_length"] // facts[f"{arch}.attention.head_count"]


def measure(program, args, length, paragraphs, bytes_per_token):
    items = items_of(args, length, paragraphs, bytes_per_token)
    dense, figures = answers(program, args, items, "dense", [])
    h.progress(f"{length} tokens: dense attention finds {sum(dense)} of {len(items)} facts")
    rows = []
    for select in args.select.split(",") if not args.dense_only else []:
        for share in map(float, args.shares.split(",")):
            flags = settings(select, share, figures["context"], args.head_dim)
            sparse, moved = answers(program, args, items, "sparse", flags)
            row = {"length": length, "context": figures["context"], "select": select, "share": share, "flags": flags, "items": len(items), "dense": sum(dense),
                   "bytes_share": moved["sparq"]["bytes_moved"] / moved["sparq"]["dense_bytes"], "kept": sum(a and b for a, b in zip(dense, sparse)),
                   "gained": sum(b and not a for a, b in zip(dense, sparse)),
                   "lost_depths": [item["depth"] for item, a, b in zip(items, dense, sparse) if a and not b]}
            rows.append(row)
            h.progress(f"{length} tokens, {select}, {share:g} of the bytes: {row['kept']} of {row['dense']} ({row['gained']} more)")
    return rows


def print_rows(rows, args):
    """True when each share of the bytes keeps what it should, over all lengths."""
    print(f"{h.machine()}; {os.path.basename(args.model)}, {os.path.basename(args.text)}, ten facts a text\n")
    h.print_table(["tokens", "SparQ", "bytes of dense", "found by dense", "and with SparQ", "by SparQ alone"],
                  [[r["context"], " ".join(r["flags"]), f"{r['bytes_share']:.3f}", f"{r['dense']} of {r['items']}", f"{r['kept']} ({r['kept'] / max(1, r['dense']):.0%})",
                    r["gained"]] for r in rows])
    print()
    good = True
    for select in args.select.split(","):
        for share, target in zip(args.shares.split(","), map(float, args.targets.split(","))):
            some = [r for r in rows if r["select"] == select and r["share"] == float(share)]
            found, kept = sum(r["dense"] for r in some), sum(r["kept"] for r in some)
            good &= kept >= target * found
            print(f"{select}, {share} of the bytes: {kept} of the {found} facts that dense attention finds, {kept / max(1, found):.1%} (at least {target:.0%})")
    return good


def main():
    args = parse_args()
    if len(args.shares.split(",")) != len(args.targets.split(",")):
        raise h.BenchError(f"--targets {args.targets}: as many as --shares {args.shares} are wanted")
    program = h.find_program(args.sluice)
    args.head_dim = head_dim_of(program, args)
    paragraphs, bytes_per_token = paragraphs_of(program, args)
    rows = []
    for length in map(int, args.lengths.split(",")):
        rows += measure(program, args, length, paragraphs, bytes_per_token)
    good = args.dense_only or print_rows(rows, args) if args.json != "-" else True
    h.report_json(args.json, {"machine": h.machine(), "rows": rows})
    return 0 if good else 1


if __name__ == "__main__":
    h.main_guard(main)
