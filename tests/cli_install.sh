#!/bin/bash
# What make install leaves is enough: a program that knows only the installed header and pkg-config builds against it, and runs.
set -u
count=0
root=$TMPDIR/root
prefix=/opt/sluice
installed=$root$prefix

check()
{
    local name=$1
    shift
    count=$((count + 1))
    if "$@" >"$TMPDIR/said" 2>&1; then
        echo "ok $count - $name"
    else
        cat "$TMPDIR/said"
        echo "not ok $count - $name"
    fi
}

skip() { count=$((count + 1)); echo "ok $count - $1 # SKIP $2"; }

finish() { echo "1..$count"; exit 0; }

# A sanitizer build has another library than the one that is installed.
if [ -s "$SLUICE_BUILD/flags" ] && grep -q -- '-fsanitize=' "$SLUICE_BUILD/flags"; then
    skip "make install" "a sanitizer build is not installed"
    finish
fi

make_install() { env -u MAKEFLAGS -u MAKELEVEL make --no-print-directory BUILD="$SLUICE_BUILD" PREFIX=$prefix DESTDIR="$root" "$@"; }
# pkg-config as a user would call it, but for the root that a package builder's DESTDIR adds.
config() { PKG_CONFIG_PATH=$installed/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root pkg-config "$@" sluice; }
has() { for name in "$@"; do [ -s "$installed/$name" ] || { echo "missing: $name"; return 1; }; done; }
flags() { config --cflags --libs; }
compile() { "$@" $(flags) -Wl,-rpath,"$installed/lib" -o "$TMPDIR/example"; }
cxx() { printf '#include <sluice.h>\nint main() { return sl_status_name(SL_OK) == nullptr; }\n' >"$TMPDIR/a.cpp" && compile g++ -std=c++17 -Wall -Werror "$TMPDIR/a.cpp" && "$TMPDIR/example"; }
no_folders() { ! grep -nE '#include "' "$installed/include/sluice.h"; }
version() { [ "$(config --modversion)" = "$("$installed/bin/sluice" --version | sed -n 's/^sluice //p')" ]; }
# What the header declares is there, and nothing else is.
exports()
{
    sed -n 's/^ *\(sl_[a-z0-9_]*\);$/\1/p' "$SLUICE_BUILD/libsluice.map" | sort >"$TMPDIR/declared"
    nm -D --defined-only "$installed/lib/libsluice.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort >"$TMPDIR/defined"
    diff "$TMPDIR/declared" "$TMPDIR/defined"
}
usage() { "$TMPDIR/example" >/dev/null 2>"$TMPDIR/err"; [ $? -eq 2 ] && grep -q usage "$TMPDIR/err"; }
no_file() { "$TMPDIR/example" /nonexistent.gguf 0 hello >/dev/null 2>"$TMPDIR/err"; [ $? -eq 1 ] && grep -q /nonexistent.gguf "$TMPDIR/err"; }
generates() { "$TMPDIR/example" "$SLUICE_TEST_MODEL" 0 "Say hello." | grep -qE '^\[[1-9][0-9]* tokens, '; }
manual() { man -l --warnings "$installed/share/man/man1/sluice.1" 2>&1 >/dev/null | (! grep .); }
completes_in_zsh() { zsh -n "$installed/share/zsh/site-functions/_sluice"; }
# What bash offers for these words, the last of which is the one that is being typed.
offered()
{
    bash -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _sluice; echo "${COMPREPLY[*]}"' bash \
        "$installed/share/bash-completion/completions/sluice" sluice "$@"
}
offers_commands() { [ "$(offered unp)" = unpack ] && offered "" | grep -q 'chat'; }
offers_flags() { [ "$(offered run --ram-b)" = --ram-budget ] && offered run "" | grep -q -e --sparsity && ! offered info --ram-b | grep .; }
completes() { bash -n "$installed/share/bash-completion/completions/sluice"; }
empty() { left=$(find "$root" -type f -o -type l); [ -z "$left" ] || { echo "left: $left"; return 1; }; }

check "make install needs no network and no rights beyond DESTDIR" make_install install
check "program, libraries, header, pkg-config file, manual and completion are installed" \
    has bin/sluice include/sluice.h lib/libsluice.a lib/libsluice.so lib/libsluice.so.0 lib/pkgconfig/sluice.pc share/man/man1/sluice.1 \
    share/bash-completion/completions/sluice share/zsh/site-functions/_sluice
check "the installed program and pkg-config agree on the version" version
check "the installed header needs no other header of ours" no_folders
check "the shared library exports what the header declares and nothing else" exports
check "the header compiles as C++" cxx
check "the example builds with pkg-config's flags alone" compile "${CC:-cc}" -std=c17 -Wall -Wextra -Werror tests/example/generate.c
check "the example asks for its arguments" usage
check "the example names a file that it cannot open" no_file
if [ -n "${SLUICE_TEST_MODEL:-}" ]; then
    check "the example generates text" generates
else
    skip "the example generates text" "SLUICE_TEST_MODEL is not set (scripts/fetch-model)"
fi
if command -v man >/dev/null; then
    check "the manual page is well formed" manual
else
    skip "the manual page is well formed" "man is not installed"
fi
check "the completion is valid bash" completes
check "bash is offered commands" offers_commands
check "then the command's flags" offers_flags
if command -v zsh >/dev/null; then
    check "the completion is valid zsh" completes_in_zsh
else
    skip "the completion is valid zsh" "zsh is not installed"
fi
check "make uninstall leaves no file" make_install uninstall
check "after make uninstall nothing is left" empty
finish
