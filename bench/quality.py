#!/usr/bin/env python3
"""bench/quality.py: what sparse decoding loses on checkable answers, and what a periodic dense check gives back.

Items are made here, from a seed: a few worked examples and one line to be finished, whose one right answer is known and several tokens long (the
first token comes from the dense prompt in every way of decoding). Each is decoded greedily three times: dense, sparse alone, and
sparse with a dense check every N tokens that keeps drafts of probability tau or more (Sirius, arXiv 2409.03856). An answer is right when it begins
with the expected one, to the letter.

Only kinds of items count of which dense decoding solves 60 % or more and sparse decoding 10 points less; the others are listed, too. Recovered is
(checked - sparse) / (dense - sparse) over the items that count; the interval is the middle 95 % of 10 000 resamplings of items, the three
answers to an item together.

    bench/quality.py --model smollm2.gguf                       # 120 items a kind, coarse 0.5, tau 0.1
    bench/quality.py --model smollm2.gguf --items 20 --kinds capitals,counting
"""

import argparse
import os
import random

import harness as h

LEAST_DENSE = 0.60
LEAST_LOSS = 0.10
EXAMPLES = 3
RESAMPLES = 10000

NOUNS = ("apple bread chair door eagle farm glass house island jacket kettle ladder mirror needle orange pencil queen river stone table "
         "uncle valley window yard zebra button candle dragon engine flower garden hammer insect jungle kitten lemon market napkin ocean "
         "parrot rabbit shadow teacher violin wagon").split()
CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "Japan": "Tokyo", "Russia": "Moscow", "Egypt": "Cairo",
            "Greece": "Athens", "Portugal": "Lisbon", "Austria": "Vienna", "Poland": "Warsaw", "Hungary": "Budapest", "Ireland": "Dublin",
            "China": "Beijing", "Cuba": "Havana", "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen",
            "Belgium": "Brussels", "Turkey": "Ankara", "Peru": "Lima", "Kenya": "Nairobi", "Thailand": "Bangkok"}
OPPOSITES = {"hot": "cold", "big": "small", "up": "down", "left": "right", "day": "night", "open": "closed", "old": "new", "fast": "slow",
             "rich": "poor", "hard": "soft", "high": "low", "light": "dark", "happy": "sad", "early": "late", "full": "empty", "wet": "dry",
             "long": "short", "good": "bad", "true": "false", "strong": "weak"}
PAST = {"walk": "walked", "play": "played", "jump": "jumped", "go": "went", "eat": "ate", "see": "saw", "take": "took", "run": "ran",
        "write": "wrote", "give": "gave", "come": "came", "sing": "sang", "drink": "drank", "look": "looked", "talk": "talked", "know": "knew",
        "find": "found", "make": "made", "sleep": "slept", "buy": "bought"}
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
PEOPLE = "Anna Ben Clara David Emma Frank Grace Henry Julia Kevin Laura Martin Nina Oliver Paula Simon".split()


def sentence(form, table):
    """Asks for a key, answers with a sentence that ends in its value, so that most of an answer comes from sparse decoding."""
    def make(rng):
        key = rng.choice(sorted(table))
        return f"Q: {key}\nA:", form.format(key, table[key])
    return make


def following(form, names):
    return sentence(form, {name: names[(i + 1) % len(names)] for i, name in enumerate(names)})


def plural(rng):
    word = rng.choice([word for word in NOUNS if word[-1] not in "sy"])
    return f"Q: {word}\nA:", f"The plural of {word} is {word}s."


def next_number(rng):
    first = rng.randrange(10, 900)
    return f"Q: {first}\nA:", f"The number after {first} is {first + 1}."


def copying(count):
    def make(rng):
        words = " ".join(rng.sample(NOUNS, count))
        return f"{words} ->", words
    return make


def capitalising(rng):
    words = rng.sample(NOUNS, 3)
    return " ".join(words) + " ->", " ".join(word.capitalize() for word in words)


def counting(step, count):
    def make(rng):
        first = abs(step) * rng.randrange(count + 1, 80)
        return f"from {first}:", ", ".join(str(first + step * i) for i in range(1, count + 1))
    return make


def codes(rng, names):
    return [" ".join(str(rng.randrange(10, 100)) for _ in range(4)) for _ in names]


def things(rng, names):
    words = rng.sample(NOUNS, 3 * len(names))
    return [f"a {words[3 * i]}, a {words[3 * i + 1]} and a {words[3 * i + 2]}" for i in range(len(names))]


def looking_up(values_of):
    def make(rng):
        names = rng.sample(PEOPLE, 3)
        values, asked = values_of(rng, names), rng.randrange(3)
        facts = ". ".join(f"{name} has {value}" for name, value in zip(names, values))
        return f"{facts}. {names[asked]} has", values[asked]
    return make


KINDS = {"capitals": sentence("The capital of {} is {}.", CAPITALS), "opposites": sentence("The opposite of {} is {}.", OPPOSITES),
         "past": sentence("The past tense of {} is {}.", PAST), "plural": plural, "next number": next_number,
         "next day": following("The day after {} is {}.", DAYS), "next month": following("The month after {} is {}.", MONTHS),
         "copying 4": copying(4), "copying 6": copying(6), "capitalising": capitalising, "counting": counting(1, 5), "counting down": counting(-1, 5),
         "twos": counting(2, 5), "tens": counting(10, 4), "codes": looking_up(codes), "things": looking_up(things)}


def parse_args():
    parser = argparse.ArgumentParser(description="Checkable answers: dense, sparse alone, sparse with dense checks.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--sluice", default="./sluice", help="our program (default ./sluice)")
    parser.add_argument("--items", type=int, default=120, help="of each kind (default 120)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="comma-separated (default: all)")
    parser.add_argument("--sparsity", default="--sparsity coarse --density 0.5", help="flags of the sparse runs (default %(default)s)")
    parser.add_argument("--check", default="--draft 8 --drafter model --accept threshold --tau 0.1",
                        help="flags of the checked runs (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the items (default 1)")
    parser.add_argument("--json", metavar="FILE", help="results as JSON, - for stdout instead of the table")
    args = parser.parse_args()
    args.kinds = args.kinds.split(",")
    for kind in args.kinds:
        if kind not in KINDS:
            parser.error(f"--kinds {kind}: known are {', '.join(KINDS)}")
    return args


def make_item(kind, rng):
    """(prompt, answer): the last line of the prompt is to be finished."""
    lines = [KINDS[kind](rng) for _ in range(EXAMPLES + 1)]
    prompt = "".join(f"{question} {answer}\n" for question, answer in lines[:-1]) + lines[-1][0]
    return prompt, lines[-1][1]


def solved(program, args, item, flags):
    prompt, answer = item
    value, _ = h.sluice(program, ["run", "-m", args.model, "-p", prompt, "-n", str(len(answer) + 8), "-c", "512", "--temp", "0", "--stop", "\n"]
                        + flags)
    return value["text"].strip().startswith(answer)


def rate(answers, way):
    return sum(answer[way] for answer in answers) / len(answers)


def recovered(answers):
    dense, sparse, checked = (rate(answers, way) for way in range(3))
    return (checked - sparse) / (dense - sparse) if dense > sparse else None


def interval(answers):
    rng = random.Random(1)
    values = sorted(value for value in (recovered(rng.choices(answers, k=len(answers))) for _ in range(RESAMPLES)) if value is not None)
    return values[len(values) // 40], values[-len(values) // 40 - 1]


def counts(answers):
    return rate(answers, 0) >= LEAST_DENSE and rate(answers, 0) - rate(answers, 1) >= LEAST_LOSS


def line(name, answers, what):
    return [name, str(len(answers))] + [f"{rate(answers, way):.1%}" for way in range(3)] + [what]


def main():
    args = parse_args()
    h.check_file(args.model)
    program = h.find_program(args.sluice)
    sparse = args.sparsity.split()
    ways = [["--draft", "0"], sparse + ["--draft", "0"], sparse + args.check.split()]
    results = {}
    for kind in args.kinds:
        rng = random.Random(f"{args.seed} {kind}")
        items = [make_item(kind, rng) for _ in range(args.items)]
        results[kind] = [[solved(program, args, item, flags) for flags in ways] for item in items]
        h.progress(f"{kind}: dense, sparse, checked " + ", ".join(f"{rate(results[kind], way):.1%}" for way in range(3)))
    counted = [answers for kind in args.kinds for answers in results[kind] if counts(results[kind])]
    rows = [line(kind, results[kind], "counts" if counts(results[kind]) else "") for kind in args.kinds]
    total = None
    if counted:
        low, high = interval(counted)
        total = {"items": len(counted), "recovered": recovered(counted), "low": low, "high": high}
        rows.append(line("all that count", counted, f"{total['recovered']:.0%} recovered ({low:.0%} to {high:.0%})"))
    if args.json != "-":
        print(f"{os.path.basename(args.model)}; {h.machine()}; sparse: {args.sparsity}; checked: {args.check}\n")
        h.print_table(["kind", "items", "dense", "sparse alone", "checked", ""], rows)
    h.report_json(args.json, {"model": args.model, "sparsity": args.sparsity, "check": args.check, "answers": results, "total": total})
    return 0


if __name__ == "__main__":
    h.main_guard(main)
