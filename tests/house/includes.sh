#!/bin/sh
# Who may include whom: cpu/, devices/ and net/ include themselves and machine/'s public headers only;
# jit/ may include cpu/; nobody includes a room he must not know.
cd "$SOURCE" || exit 1
public='types|error|log|state|wire|clock|bus|device|pins|memory|drive|chardev|display'
n=0
check() { # ROOM ALLOWED-PATTERN
    n=$((n + 1))
    bad=$(grep -rnE '^#include "' "$1" --include='*.[ch]' --include='*.def' --include='*.inc' | grep -vE "#include \"($2)" || true)
    if [ -z "$bad" ]; then echo "ok $n - $1"; else echo "not ok $n - $1"; echo "$bad" | sed 's/^/# /'; fi
}
echo 1..4
check cpu "cpu/|machine/($public)\.(h|def)\""
check jit "jit/|cpu/|machine/($public)\.(h|def)\"|config\.h\""
check devices "devices/|net/|machine/($public)\.(h|def)\""
check net "net/|machine/($public)\.(h|def)\""
