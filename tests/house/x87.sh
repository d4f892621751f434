#!/bin/sh
# The guest's x87 and MMX registers stay in the host's while C code runs: only the instructions' own
# semantics, in front of which they are taken out, may touch these.
cd "$BUILD" || exit 1
case $(uname -m) in x86_64) ;; *) echo "1..0 # SKIP the translator's host is x86-64"; exit 0;; esac
command -v objdump >/dev/null || { echo "1..0 # SKIP no objdump"; exit 0; }
echo 1..1
bad=$(for f in cpu/*.o jit/*.o devices/*.o devices/*/*.o machine/*.o machine/*/*.o net/*.o; do
    case $f in cpu/x87*.o) continue;; esac
    objdump -d --no-show-raw-insn "$f" | awk -v file="$f" '
        /^[0-9a-f]+ <.*>:$/ { name = $2 }
        /^ / && $2 ~ /^(f(ld|n?st|i(ld|st|add|sub|mul|div|com)|add|sub|mul|div|xch|u?com|cmov|chs|abs|sqrt|n?init|free|wait|rstor|n?save|prem|scale|sin|cos|ptan|patan|yl2x|2xm1|rndint|xam|tst|xtract|b|dec|inc|nclex)|emms)/ ||
        /%mm[0-7]/ { print file, name, $0 }'
done | head -5)
if [ -z "$bad" ]; then echo "ok 1 - C code leaves the x87 alone"
else echo "not ok 1 - C code leaves the x87 alone"; echo "$bad" | sed 's/^/# /'; fi
