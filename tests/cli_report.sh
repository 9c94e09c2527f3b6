#!/bin/bash
# tests/cli_report.sh: report: well-formed pages and pictures of what the commands print, what is refused, and, where Chromium is, what it makes of a page.
. "$(dirname "$0")/cli.inc.sh"
figures=$PWD/bench/figures
cd "$TMP" || exit 1

report() { "$SLUICE" report "$@"; }
printf '%s\n' one two three four five six seven eight nine ten eleven twelve | tr '\n' ' ' >text.txt
for i in 1 2 3 4 5 6 7 8; do cat text.txt text.txt >more.txt; mv more.txt text.txt; done
head -c 4000 text.txt >short.txt
"$SLUICE" perplexity -m "$SMALL" -f short.txt -c 64 --chunks 1 --json >dense.json 2>/dev/null
"$SLUICE" perplexity -m "$SMALL" -f short.txt -c 64 --chunks 1 --json --sparsity coarse --density 0.5 >coarse.json 2>/dev/null
printf '%s\n' '{"kind":"<b>&amp;\"","prompt":"one two","choices":["three","four"],"answer":0}' >tasks.jsonl
"$SLUICE" eval -m "$SMALL" tasks.jsonl --sparsity coarse --json >eval.json 2>/dev/null
cat >bench.json <<'JSON'
[{"program": "sluice", "model_type": "a <script>alert(1)</script>", "cpu_info": "x & y", "n_gen": 8, "n_prompt": 0, "ram_budget_bytes": 2147483648,
  "avg_ts": 1.2, "stddev_ts": 0.1, "sparsity": "fine", "density": 0.5, "draft": "8", "bytes_read_per_token": 1000000000, "tokens_per_s_limit": 2,
  "compute_s": 2, "wait_s": 4, "other_s": 0.1, "breakdown": {"pass_ns": {"count": 8, "p50": 700000000, "p90": 800000000, "p99": 900000000, "max": 900000000},
  "read_ns": {"count": 90, "p50": 2000000, "p90": 3000000, "p99": 40000000, "max": 50000000}, "pass_wait_ns": {"count": 0, "p50": 0, "p90": 0, "p99": 0, "max": 0}}},
 {"program": "llama.cpp", "model_type": "another", "n_gen": 8, "n_prompt": 0, "ram_budget_bytes": 3221225472, "avg_ts": 0.3}]
JSON
works "a page of all that the commands print" report bench.json dense.json coarse.json eval.json -o page.html
works "a picture of one plot" report --svg speed bench.json -o speed.svg --title "Speed <fast>"
cat >check.py <<'PY'
import re, xml.etree.ElementTree as tree
def check(right, sentence):
    print(("ok - " if right else "not ok - ") + sentence)
page = open("page.html", encoding="utf-8").read()
root = tree.fromstring(page)
plots = [e for e in root.iter("{http://www.w3.org/2000/svg}svg")]
tables = [e for e in root.iter("{http://www.w3.org/1999/xhtml}table")]
check(len(plots) == 6 and len(tables) == 6, f"the page is well-formed and has six plots, each with a table: {len(plots)}, {len(tables)}")
ids = [e.get("id") for e in root.iter() if e.get("id")]
check(len(ids) == len(set(ids)) and all(set(p.get("aria-labelledby").split()) <= set(ids) for p in plots), "each plot is named by its title and description")
latencies = next(("".join(t.itertext()) for t in tables if "99 of 100" in "".join(t.itertext())), "")
check("a read" in latencies and "40" in latencies and "waiting" not in latencies, f"percentiles of passes and reads have their plot, and of what did not happen there is none: {latencies}")
check(all(p.get("role") == "img" and p.find("{*}title").text and p.find("{*}desc").text for p in plots), "which are not empty")
check(not re.search(r"<script|(src|href)=\"(?!#)|url\(|@import|\son[a-z]+=\"", page.replace('xmlns="http', "")), "nothing is fetched and no script runs")
check("a &lt;script&gt;alert(1)&lt;/script&gt;" in page and "&lt;b&gt;&amp;amp;&quot;" in page, "texts stay texts")
check("prefers-color-scheme:dark" in page and "width=device-width" in page, "it knows the dark, and narrow screens")
svg = tree.parse("speed.svg").getroot()
check(svg.find("{*}title").text == "Speed <fast>" and svg.get("width"), "a picture stands alone")
PY
python3 check.py >checked 2>&1 || not_ok "check.py" "$(tail -n 1 checked)"
cat checked
grep -q '^not ok' checked && FAILED=1
fails "a page that is there is not overwritten" 2 'page.html exists; --force' report bench.json -o page.html
works "but with --force" report bench.json -o page.html --force
fails "no results are wrong usage" 2 'no results; name files' report -o x.html
fails "and so is no output" 2 'no output; -o FILE' report bench.json
fails "an unknown plot lists those that are known" 2 'known are speed, quality' report --svg pie bench.json -o x.svg
fails "a plot without figures says what it wants" 2 'nothing to plot; it wants results of eval' report --svg tasks bench.json -o x.svg
echo '[{"colour": "red"}]' >other.json
fails "what is no result is refused" 2 'other.json: value 0 is nothing' report other.json -o x.html
head -c 100 bench.json >cut.json
fails "a file that is cut is no JSON" 2 'cut.json: no JSON at byte' report cut.json -o x.html
fails "a file that is not there" 1 'missing.json: cannot be opened' report missing.json -o x.html
[ ! -e x.html ] && [ ! -e x.svg ] && ok "and nothing is left of what was refused" || not_ok "and nothing is left of what was refused" "$(ls)"
for name in speed quality; do
    "$SLUICE" report --svg $name "$figures/$name.json" -o $name.new.svg 2>err && cmp -s $name.new.svg "$figures/$name.svg" &&
        ok "the README's picture of $name is that of its figures" || not_ok "the README's picture of $name is that of its figures" "make figures" "$(cat err)"
done

# ---- in a browser ----

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
look() { # FILE WIDTH HEIGHT SCHEME(0 dark, 1 light)
    timeout 60 "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$TMP/profile" --virtual-time-budget=1000 \
        --blink-settings=preferredColorScheme="$4" --window-size="$2,$3" --screenshot="$TMP/$1" "file://$TMP/page.html" >browser.log 2>&1
}
shots="a browser shows the page, light and dark, on a phone and on a desktop"
if [ -z "$browser" ]; then
    skip "$shots" "no chromium here"
else
    "$SLUICE" report bench.json dense.json coarse.json eval.json -o page.html --force 2>/dev/null
    look phone-light.png 390 800 1 && look phone-dark.png 390 800 0 && look desktop-light.png 1000 500 1
    cat >pixels.py <<'PY'
import struct, sys, zlib
def rows(name):
    """Pixels of an 8-bit PNG, filters undone."""
    data, at, parts = open(name, "rb").read(), 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
        parts += body if kind == b"IDAT" else b""
        at += length + 12
    n, raw, before = {2: 3, 6: 4}[colour], zlib.decompress(parts), None
    for y in range(height):
        filter_, line = raw[y * (width * n + 1)], bytearray(raw[y * (width * n + 1) + 1:(y + 1) * (width * n + 1)])
        before = before or bytearray(width * n)
        for i in range(len(line)):
            a, b, c = line[i - n] if i >= n else 0, before[i], before[i - n] if i >= n else 0
            p = a + b - c
            paeth = a if abs(p - a) <= abs(p - b) and abs(p - a) <= abs(p - c) else b if abs(p - b) <= abs(p - c) else c
            line[i] = line[i] + (0, a, b, (a + b) // 2, paeth)[filter_] & 255
        before = line
        yield [tuple(line[x * n:x * n + 3]) for x in range(0, width, 2)] if y % 4 == 0 else None
def look(name):
    seen = [pixel for row in rows(name) if row for pixel in row]
    return max(set(seen), key=seen.count), set(seen)
for name, paper, blue in (("phone-light.png", (255, 255, 255), (0, 114, 178)), ("phone-dark.png", (13, 17, 23), (88, 166, 255)), ("desktop-light.png", (255, 255, 255), (0, 114, 178))):
    most, seen = look(name)
    if most != paper or blue not in seen:
        sys.exit(f"{name}: paper {most}, not {paper}; the first series' colour is {'' if blue in seen else 'not '}there")
PY
    python3 pixels.py >pixels.log 2>&1 && ok "$shots" || not_ok "$shots" "$(tail -n 2 pixels.log)" "$(tail -n 3 browser.log)"
fi
finish
