#!/bin/bash
# The tools that judge the project are judged here: each must find what it is there to find.
# Every case is a small tree of its own, below TMPDIR, with a copy of the tool in it.
set -u
tree=$TMPDIR/tree
count=0

# check NAME COMMAND...: a test that passes when the command does.
check()
{
    local name=$1
    shift
    count=$((count + 1))
    if "$@" >"$TMPDIR/said" 2>&1; then
        echo "ok $count - $name"
    else
        cat "$TMPDIR/said"
        [ ! -f "$TMPDIR/output" ] || sed 's/^/| /' "$TMPDIR/output"
        echo "not ok $count - $name"
    fi
}

fresh_tree()
{
    rm -rf "$tree"
    mkdir -p "$tree/scripts" "$tree/tests" "$tree/core" "$tree/kernels/cpu" "$tree/pager" "$tree/offload/cli"
    cp scripts/"$1" "$tree/scripts/"
    printf '#ifndef A\n#define A\n#endif\n' | tee "$tree/core/a.h" "$tree/kernels/k.h" "$tree/pager/p.h" "$tree/offload/o.h" >"$tree/offload/cli/c.h"
}

# --- run-tests -------------------------------------------------------------------------------------------------------------------

# outcome STATUS LAST_LINE SCRIPT...: runs the scripts as test programs and compares how that ends.
outcome()
{
    local status=$1 last=$2 n=0 got
    shift 2
    fresh_tree run-tests
    for script in "$@"; do
        n=$((n + 1))
        printf '%s\n' "$script" >"$tree/tests/cli_$n.sh"
    done
    "$tree/scripts/run-tests" --build "$tree/build" --timeout 2 >"$TMPDIR/output" 2>&1
    got=$?
    [ $got -eq "$status" ] && [ "$(tail -n 1 "$TMPDIR/output")" = "$last" ]
}

check "passed tests are counted over all programs" \
    outcome 0 "3 passed, 0 failed, 0 skipped" 'echo "ok 1 - a"; echo "ok 2 - b"' 'echo "ok c"'
check "a failed test fails the run" outcome 1 "1 passed, 1 failed, 0 skipped" 'echo "ok 1 - a"; echo "not ok 2 - b"; exit 1'
check "a skip with a reason is counted as such" outcome 0 "1 passed, 0 failed, 1 skipped" 'echo "ok 1 - a"; echo "ok 2 - b # SKIP no disk"'
check "cmocka's skip takes its reason from the line before" \
    outcome 0 "1 passed, 0 failed, 1 skipped" 'echo "ok 1 - a"; echo "no model"; echo "not ok 2 # SKIP b"'
check "a skip without a reason is a failure" outcome 1 "1 passed, 1 failed, 0 skipped" 'echo "ok 1 - a"; echo "not ok 2 # SKIP b"'
check "a program that dies of a signal is a failure" outcome 1 "1 passed, 1 failed, 0 skipped" 'echo "ok 1 - a"; kill -SEGV $$'
check "a program that fails without a failed test is a failure" outcome 1 "1 passed, 1 failed, 0 skipped" 'echo "ok 1 - a"; exit 3'
check "a program that hangs is stopped and is a failure" outcome 1 "1 passed, 1 failed, 0 skipped" 'echo "ok 1 - a"; sleep 60'
check "a program that stops before its plan is a failure" outcome 1 "1 passed, 1 failed, 0 skipped" 'echo 1..2; echo "ok 1 - a"'
check "a program without tests is a failure" outcome 1 "0 passed, 1 failed, 0 skipped" 'true'
check "no program at all is a failure" outcome 1 "0 passed, 0 failed, 0 skipped"
check "only skipped tests are no success" outcome 1 "0 passed, 0 failed, 1 skipped" 'echo "ok 1 - a # SKIP no disk"'

# --- check-includes ----------------------------------------------------------------------------------------------------------------

# includes STATUS FILE LINE: whether the file may hold the line.
includes()
{
    fresh_tree check-includes
    mkdir -p "$(dirname "$tree/$2")"
    printf '%s\n' "$3" >"$tree/$2"
    "$tree/scripts/check-includes" >"$TMPDIR/output" 2>&1
    [ $? -eq "$1" ]
}

check "core includes core" includes 0 core/x.c '#include "core/a.h"'
check "core includes nothing else of ours" includes 1 core/x.c '#include "pager/p.h"'
check "kernels include core" includes 0 kernels/cpu/x.c '#include "core/a.h"'
check "kernels do not include the pager" includes 1 kernels/cpu/x.c '#include "pager/p.h"'
check "the pager does not include kernels" includes 1 pager/x.c '#include "kernels/k.h"'
check "offload includes all" includes 0 offload/x.c '#include "kernels/k.h"'
check "the library does not include the command line" includes 1 offload/x.c '#include "offload/cli/c.h"'
check "a folder up is no way around" includes 1 core/x.c '#include "../pager/p.h"'
check "io_uring stays in one file" includes 1 pager/x.c '#include <liburing.h>'
check "io_uring is allowed in that file" includes 0 pager/uring.c '#include <liburing.h>'
check "jansson stays in the command line" includes 1 core/x.c '#  include <jansson.h>'
check "CUDA stays in its kernels" includes 1 kernels/cpu/x.c '#include <cuda_runtime.h>'
check "a header that does not exist is found" includes 1 core/x.c '#include "core/b.h"'

# --- check-symbols -----------------------------------------------------------------------------------------------------------------

# symbols STATUS SOURCE: whether a library with this source would pass.
symbols()
{
    printf '%s\n' '#include <stdio.h>' '#include <stdlib.h>' "$2" >"$TMPDIR/s.c"
    rm -f "$TMPDIR/s.a"
    "${CC:-cc}" -fPIC -O1 -c -o "$TMPDIR/s.o" "$TMPDIR/s.c" && ar rcs "$TMPDIR/s.a" "$TMPDIR/s.o" || return 1
    scripts/check-symbols "$TMPDIR/s.a" >"$TMPDIR/output" 2>&1
    [ $? -eq "$1" ]
}

check "a library may hold constant tables" symbols 0 'const char *const sl_names[] = {"a", "b"}; int sl_f(int x) { return x + 1; }'
check "a library does not print" symbols 1 'void sl_f(int x) { printf("%d", x); }'
check "a library does not end the process" symbols 1 'void sl_f(void) { exit(1); }'
check "a library does not read the environment" symbols 1 'char *sl_f(void) { return getenv("A"); }'
check "a library keeps no state" symbols 1 'int sl_f(void) { static int calls; return ++calls; }'
check "a library keeps no state for each thread either" symbols 1 'int sl_f(void) { static _Thread_local int calls; return ++calls; }'
check "a library brings no name but its own" symbols 1 'int other(void) { return 1; }'

# --- the benchmarks' options ---------------------------------------------------------------------------------------------------------

# takes SCRIPT OPTION VALUE FLAGS...: the value is taken, though it begins with a dash, and so the missing model is what is said.
takes()
{
    local script=$1 option=$2 value=$3
    shift 3
    "bench/$script" --model /nonexistent.gguf "$option" "$value" "$@" >"$TMPDIR/output" 2>&1
    [ $? -eq 1 ] && grep -q '/nonexistent.gguf: no such file' "$TMPDIR/output"
}

check "a flag for llama.cpp is a value of --peer-setting" takes ppl.py --peer-setting -nr --text text --peer-dir folder
check "so are several" takes ppl.py --peer-setting '-nr -fa off' --text text --peer-dir folder
check "and a flag for the program one of --sluice-args" takes offload.py --sluice-args --buffered --peer-dir folder

echo "1..$count"
