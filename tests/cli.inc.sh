# tests/cli.inc.sh: what the tests of the program share; read with `. tests/cli.inc.sh` by tests/cli_*.sh.
#
# SLUICE names the program (default ./sluice), SLUICE_TEST_MODEL a real model; without it a small random one is made.
# A test prints TAP lines, "ok - …", "not ok - …" with what explains it behind, or "ok - … # SKIP reason", and ends with `finish`,
# which fails if any was not ok.

SLUICE=${SLUICE:-./sluice}
case $SLUICE in
/*) ;;
*) SLUICE=$PWD/$SLUICE ;;
esac
TMP=$(mktemp -d "${TMPDIR:-/var/tmp}/sluice-cli.XXXXXX") || exit 1 # not /tmp: that may be tmpfs, which can refuse direct reads
TMP=$(cd "$TMP" && pwd) # tests change folders
trap 'rm -rf "$TMP"' EXIT
export XDG_CACHE_HOME="$TMP/.cache" # what doctor keeps is not the user's here
trap 'exit 130' INT TERM
FAILED=0

ok() { echo "ok - $1"; }
not_ok() { # sentence, then lines that explain
    echo "not ok - $1"
    shift
    for line in "$@"; do printf '%s\n' "$line" | sed 's/^/  # /'; done
    FAILED=1
}
skip() { echo "ok - $1 # SKIP $2"; }
finish() { exit $FAILED; }
# A sanitizer's own memory differs from run to run, and so does an emulator's, so that the smallest budget of one run is not exactly that of the next.
sanitized() { [ -n "${SLUICE_TEST_EMULATED:-}" ] || grep -q -- -fsanitize= "${SLUICE_BUILD:-build}/flags" 2>/dev/null; }

[ -x "$SLUICE" ] || {
    not_ok "the program is there" "$SLUICE: not an executable; set SLUICE"
    finish
}

# The model that the tests read: $MODEL, and in $SMALL a tiny one that is quick to copy and damage.
SMALL=$TMP/small.gguf
"$SLUICE" synth --shape tiny --type Q4_0 -o "$SMALL" >"$TMP/synth.out" 2>&1 || {
    not_ok "synth makes a tiny model" "$(cat "$TMP/synth.out")"
    finish
}
MODEL=${SLUICE_TEST_MODEL:-$SMALL}

# json FILE KEY.KEY…: one value of a JSON file, lists as they are.
json() {
    python3 -c '
import json, sys
value = json.load(open(sys.argv[1], encoding="utf-8"))
for key in sys.argv[2].split("."):
    value = value[key]
print(value)' "$1" "$2" 2>&1
}

# smallest_budget MODEL FLAGS…: what a run that cannot fit names.
smallest_budget() {
    model=$1
    shift
    "$SLUICE" run -m "$model" -p x -n 1 --ram-budget 1M --json "$@" >"$TMP/refused.json" 2>/dev/null
    json "$TMP/refused.json" error.ram_budget_min_bytes
}

# fails SENTENCE STATUS PATTERN COMMAND…: the command ends with STATUS, and the last line on stderr is the only "sluice: …", matches PATTERN
# and holds no control character. Lines before it are notes about the run (a chosen batch, a fallback); stdout is empty.
fails() {
    sentence=$1 want=$2 pattern=$3
    shift 3
    "$@" >"$TMP/out" 2>"$TMP/err"
    status=$?
    lines=$(grep -c '^sluice: .' "$TMP/err")
    if [ $status -ne "$want" ]; then
        not_ok "$sentence" "exit status $status, not $want" "$(head -c 500 "$TMP/err")"
    elif [ "$lines" -ne 1 ] || ! tail -n 1 "$TMP/err" | grep -q '^sluice: .'; then
        not_ok "$sentence" "$lines lines of 'sluice: …' on stderr, not one at the end" "$(head -c 500 "$TMP/err")"
    elif LC_ALL=C grep -q '[[:cntrl:]]' "$TMP/err"; then
        not_ok "$sentence" "a control character reaches the terminal" "$(cat -v "$TMP/err")"
    elif ! tail -n 1 "$TMP/err" | grep -Eqi -- "$pattern"; then
        not_ok "$sentence" "the message does not match '$pattern'" "$(cat "$TMP/err")"
    elif [ -s "$TMP/out" ]; then
        not_ok "$sentence" "something is on stdout" "$(head -c 200 "$TMP/out")"
    else
        ok "$sentence"
    fi
}

# works SENTENCE COMMAND…: the command ends with 0.
works() {
    sentence=$1
    shift
    "$@" >"$TMP/out" 2>"$TMP/err"
    status=$?
    if [ $status -eq 0 ]; then ok "$sentence"; else not_ok "$sentence" "exit status $status" "$(tail -n 3 "$TMP/err")"; fi
}

is_root() { [ "$(id -u)" -eq 0 ]; }
