#!/usr/bin/env python3
"""bench/tokenizers.py: the same tokens as llama.cpp, for every vocabulary that it brings along, on its cases and on random text.

    bench/tokenizers.py --peer-dir ~/llama.cpp/build

Vocabularies are llama.cpp's models/ggml-vocab-*.gguf, with the cases beside them (.inp, .out), or those of --vocab, whole models among
them. Then come pre-tokenizers that no such file has: each is put into a copy of the vocabulary --base, since both programs cut by the
name in the file, whatever the tokens are. Random strings are told apart by the vocabulary's own end token, at which a text is cut
before anything else, so that one process takes many of them; then they are taken once more as one text without a break. A vocabulary
that sluice refuses is listed with the reason. Exit status 1 when one token differs.
"""

import argparse
import glob
import json
import os
import random
import struct
import sys
import tempfile

import harness as h

CASE_MARK = "\n__ggml_vocab_test__\n"
PRES = ["smollm", "gpt-2", "llama-bpe", "dbrx", "glm4", "qwen2", "qwen35", "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon", "tekken",
        "gpt-4o", "poro-chat", "viking", "jais-2", "seed-coder", "minicpm5", "default"]
# What text is made of: ranges of code points, those that programs disagree about among them: white space of all kinds, marks, digits and
# letters that came late, what is not assigned.
RANGES = [(0x20, 0x7e)] * 6 + [
    (0x00, 0x1f), (0x80, 0x24f), (0x250, 0x36f), (0x370, 0x52f), (0x531, 0x5ff), (0x600, 0x6ff), (0x900, 0x97f), (0xe00, 0xe7f),
    (0x10a0, 0x10ff), (0x1100, 0x11ff), (0x13a0, 0x13fd), (0x1680, 0x169f), (0x1c80, 0x1cbf), (0x1e00, 0x1fff), (0x2000, 0x206f),
    (0x2070, 0x2bff), (0x2c00, 0x2dff), (0x3000, 0x30ff), (0x3400, 0x9fff), (0xa640, 0xa7ff), (0xab30, 0xabbf), (0xac00, 0xd7ff),
    (0xe000, 0xe0ff), (0xf900, 0xffff), (0x10400, 0x105ff), (0x10d00, 0x10fff), (0x11000, 0x11fff), (0x13430, 0x1345f), (0x16e40, 0x16fff),
    (0x1b100, 0x1b2ff), (0x1d2c0, 0x1d7ff), (0x1df00, 0x1e4ff), (0x1e800, 0x1e95f), (0x1f300, 0x1faff), (0x20000, 0x323af), (0xe0100, 0xe01ef)]
WORDS = ["'s", "'T", "'re", "'VE", "'ll", "'d", " the", "The", " Café", "naïve", "ABCdef", " XMLHttp", "  ", "   ", "\n", "\r\n", "\n\n", "\t", " \n ",
         "123", "1234567", " 42", "3.14", "...", "?!", " -> ", "// ", "<|", "你好", "、。", "です", "한국어", "नमस्ते", "سلام", "Привет", "١٢٣",
         "\u00a0", "\u2028", "\u3000", "\u200d", "👩‍💻", "ﬁ", "ſ", "İ", "ß", "\u0301", "e\u0301", "½", "Ⅷ", "²"]


def parse_args():
    parser = argparse.ArgumentParser(description="Compares tokens with llama.cpp's.")
    parser.add_argument("--peer-dir", required=True, help="folder of a llama.cpp build")
    parser.add_argument("--vocab", action="append", help="a GGUF file; may be given several times (default: llama.cpp's models/ggml-vocab-*.gguf)")
    parser.add_argument("--base", help="the vocabulary for further pre-tokenizers (default: llama.cpp's llama-bpe)")
    parser.add_argument("--pre", default=",".join(PRES), help="which of them, or none (default: one of each kind)")
    parser.add_argument("--strings", type=int, default=10000, help="random strings a vocabulary (default 10000)")
    parser.add_argument("--seed", type=int, default=1, help="of the strings (default 1)")
    parser.add_argument("--sluice", default="./sluice", help="our program (default ./sluice)")
    parser.add_argument("--json", metavar="FILE", help="results as JSON, - for stdout instead of the table")
    return parser.parse_args()


# ---------------------------------------------------------------- text


def random_string(source):
    parts = []
    for _ in range(source.randrange(1, 12)):
        if source.random() < 0.4:
            parts.append(source.choice(WORDS))
        else:
            low, high = source.choice(RANGES)
            parts.append("".join(chr(source.randint(low, high)) for _ in range(source.randrange(1, 6))))
    return "".join(parts)


# ---------------------------------------------------------------- the two programs


class Pair:
    """Both programs on one vocabulary."""

    def __init__(self, ours, theirs, folder, vocab):
        self.ours, self.theirs, self.vocab = ours, theirs, vocab
        self.text = os.path.join(folder, "text")

    def refusal(self):
        """Why sluice does not take the vocabulary, or None."""
        result = h.run([self.ours, "tokenize", "-m", self.vocab, "-p", "a", "--ids"])
        return None if result.status == 0 else result.stderr.strip().splitlines()[-1]

    def _ids(self, argv, text, special):
        with open(self.text, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        result = h.run(argv + ["-m", self.vocab, "-f", self.text, "--ids", "--no-bos"] + ([] if special else ["--no-parse-special"]))
        if result.status != 0:
            raise h.BenchError(result.failed())
        return json.loads(result.stdout.strip().splitlines()[-1])

    def our_tokens(self, text, special):
        """Without BOS; special: tokens' names in the text are those tokens."""
        return self._ids([self.ours, "tokenize"], text, special)

    def tokens(self, text, special):
        """(ours, theirs)"""
        return self.our_tokens(text, special), self._ids([self.theirs, "--log-disable", "--no-escape"], text, special)

    def separator(self):
        """A special token's text and id: the end of a text, or what stands for it."""
        value, _ = h.sluice(self.ours, ["info", self.vocab])
        for key in ("eos", "bos", "unknown"):
            token = value["metadata"].get(f"tokenizer.ggml.{key}_token_id")
            if token is not None:
                result = h.run([self.ours, "tokenize", "-m", self.vocab, "--decode", "-p", str(token)])
                text = result.stdout.rstrip("\n")
                if text and all(token in ids for ids in self.tokens(f"a{text}b", True)):
                    return text, token
        raise h.BenchError(f"{self.vocab}: no special token to tell strings apart")


def split(ids, separator):
    parts = [[]]
    for token in ids:
        if token == separator:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


# ---------------------------------------------------------------- comparing


def read_cases(vocab):
    """[(text, ids)], from the files beside a vocabulary; a text with its ids as numbers."""
    if not os.path.exists(vocab + ".inp"):
        return []
    with open(vocab + ".inp", encoding="utf-8", newline="") as file:
        texts = file.read().split(CASE_MARK)
    with open(vocab + ".out", encoding="utf-8") as file:
        ids = [[int(word) for word in line.split()] for line in file.read().split("\n")]
    if len(ids) < len(texts) or any(ids[len(texts):]):
        raise h.BenchError(f"{vocab}.out: {len(ids)} lines for {len(texts)} cases")
    return list(zip(texts, ids))


def show(name, text, ours, theirs):
    print(f"{name}: {text!r}\n  sluice    {ours}\n  llama.cpp {theirs}", file=sys.stderr)


def compare_cases(pair, name):
    cases = read_cases(pair.vocab)
    differ = 0
    for text, ids in cases:
        ours = pair.our_tokens(text, False) if text else []
        if ours != ids:
            differ += 1
            show(name, text, ours, ids)
    return len(cases), differ


def compare_strings(pair, name, count, seed):
    source = random.Random(seed)
    text, separator = pair.separator()
    differ = 0
    for begin in range(0, count, 2500):
        strings = [random_string(source).replace(text, "") for _ in range(min(2500, count - begin))]
        ours, theirs = (split(ids, separator) for ids in pair.tokens(text.join(strings), True))
        if len(ours) != len(strings) or len(theirs) != len(strings):
            raise h.BenchError(f"{name}: {len(strings)} strings became {len(ours)} and {len(theirs)}")
        for string, a, b in zip(strings, ours, theirs):
            if a != b:
                differ += 1
                if differ <= 5:
                    show(name, string, a, b)
        whole = pair.tokens("".join(strings[:500]), False)
        if whole[0] != whole[1]:
            differ += 1
            print(f"{name}: the strings as one text differ", file=sys.stderr)
    return differ


def with_pre(base, pre, path):
    """A copy of the vocabulary `base` that names another pre-tokenizer; it has no tensors, so nothing else moves."""
    with open(base, "rb") as file:
        data = file.read()
    key = struct.pack("<Q", len(b"tokenizer.ggml.pre")) + b"tokenizer.ggml.pre" + struct.pack("<I", 8)
    at = data.index(key) + len(key)
    length, = struct.unpack_from("<Q", data, at)
    with open(path, "wb") as file:
        file.write(data[:at] + struct.pack("<Q", len(pre)) + pre.encode() + data[at + 8 + length:])


def compare(name, pair, args):
    refused = pair.refusal()
    if refused:
        return {"vocabulary": name, "refused": refused}
    h.progress(name)
    cases, cases_differ = compare_cases(pair, name)
    return {"vocabulary": name, "cases": cases, "cases_differ": cases_differ, "strings": args.strings,
            "strings_differ": compare_strings(pair, name, args.strings, args.seed)}


def main():
    args = parse_args()
    ours = h.find_program(args.sluice)
    theirs, = h.find_peer(args.peer_dir, "llama-tokenize")
    models = os.path.join(os.path.dirname(os.path.abspath(args.peer_dir)), "models")
    vocabs = args.vocab or sorted(glob.glob(os.path.join(models, "ggml-vocab-*.gguf")))
    if not vocabs:
        raise h.BenchError(f"{models}: no vocabularies there; --vocab names some")
    base = args.base or os.path.join(models, "ggml-vocab-llama-bpe.gguf")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for vocab in vocabs:
            name = os.path.basename(vocab).removeprefix("ggml-vocab-").removesuffix(".gguf")
            results.append(compare(name, Pair(ours, theirs, folder, h.check_file(vocab)), args))
        for pre in args.pre.split(",") if args.pre != "none" else []:
            path = os.path.join(folder, "vocabulary.gguf")
            with_pre(h.check_file(base), pre, path)
            results.append(compare(f"pre-tokenizer {pre}", Pair(ours, theirs, folder, path), args))
    if args.json != "-":
        rows = [[r["vocabulary"], "refused: " + r["refused"].split(": ", 2)[-1], "", "", ""] if "refused" in r else
                [r["vocabulary"], r["cases"], r["cases_differ"], r["strings"], r["strings_differ"]] for r in results]
        h.print_table(["vocabulary", "cases", "differ", "random strings", "differ"], rows)
    h.report_json(args.json, results)
    return 1 if any(r.get("cases_differ") or r.get("strings_differ") for r in results) else 0


if __name__ == "__main__":
    h.main_guard(main)
