# A cross build and its smoke test: sourced by tests/cross/ARCH.sh with arch (Debian's name), triplet and
# emulator (the user-mode one) set. Prints TAP. The build is kept in $LYREBIRD_CACHE.
: "${SOURCE:=$(cd "$(dirname "$0")/../.." && pwd)}"
export SOURCE
. "$SOURCE/tests/boot/lib.sh"

n=0
good() { n=$((n + 1)); echo "ok $n - $arch: $*"; }
bad() { n=$((n + 1)); echo "not ok $n - $arch: $*"; } # with what explains it on standard input
explain() { cut -c1-300 | sed 's/^/# /'; }
leave() { echo "1..$n"; exit "${1:-0}"; }

for tool in "$triplet-gcc" "$emulator"; do
    command -v "$tool" >/dev/null || { echo "1..0 # SKIP $tool is missing"; exit 0; }
done
root=$(QUIET=1 sh "$SOURCE/tests/cross/sysroot.sh" "$arch") || { bad "packages to build against" </dev/null; leave 1; }
build=$LYREBIRD_CACHE/build-$arch
# What a build of another checkout noted of its sources is of no use.
[ "$(cat "$build/source" 2>/dev/null)" = "$SOURCE" ] || rm -rf "$build"
mkdir -p "$build"
cd "$build"
printf '%s\n' "$SOURCE" > source

# --- the build, without a warning ---
configure() {
    PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_LIBDIR=$root/usr/lib/$triplet/pkgconfig:$root/usr/share/pkgconfig \
        CC="$triplet-gcc --sysroot=$root" "$SOURCE/configure" --host="$triplet" --without-sdl2 "$@"
}
if configure > configure.log 2>&1; then good configure; else bad configure; explain < configure.log; leave 1; fi
# Not the tests of the x86 host's own instructions and of the translator: they have nothing to compare with here.
tests=$(cd "$SOURCE" && ls tests/*/test_*.c | grep -v -e test_native -e test_jit -e test_lockstep -e test_background | sed 's/\.c$/.t/')
if make -k -j2 lyrebird $tests > make.log 2>&1; then good build; else bad build; grep -A3 -E 'error|undefined' make.log | head -n 40 | explain; fi
if grep -q 'warning:' make.log; then bad "no warnings"; grep -A3 'warning:' make.log | head -n 40 | explain; else good "no warnings"; fi
[ -x lyrebird ] || leave 1

# --- unit tests ---
foreign() { # SECONDS command...
    limit=$1; shift
    timeout -k 5 "$limit" "$emulator" -L "$root" "$@"
}
for t in $tests; do
    [ -x "$t" ] || continue
    status=0
    CMOCKA_MESSAGE_OUTPUT=TAP foreign 300 "$t" > test.log 2>&1 </dev/null || status=$?
    if [ $status = 0 ] && ! grep -qa '^not ok' test.log; then good "$t ($(grep -ca '^ok' test.log) tests)"
    else bad "$t, status $status"; grep -a -v '^ok' test.log | head -n 20 | explain; fi
done

# --- the emulator ---
version=$(foreign 20 ./lyrebird -version 2>&1 || true)
case $version in Lyrebird\ [0-9]*) good "-version";; *) bad "-version"; echo "$version" | explain;; esac

# Runs the emulator in the background until FILE holds PATTERN; PATTERN must come within SECONDS.
until_seen() { # NAME SECONDS FILE PATTERN arguments...
    name=$1 seconds=$2 file=$3 pattern=$4; shift 4
    rm -f "$file"
    "$emulator" -L "$root" ./lyrebird -display none -serial null -monitor none -nic none "$@" > run.log 2>&1 </dev/null &
    pid=$! seen=no waited=0
    while [ $waited -lt "$seconds" ] && kill -0 $pid 2>/dev/null; do
        if grep -qa "$pattern" "$file" 2>/dev/null; then seen=yes; break; fi
        sleep 1; waited=$((waited + 1))
    done
    kill $pid 2>/dev/null || true
    status=0; wait $pid || status=$?
    if [ $seen = yes ] && [ $status = 0 ]; then good "$name"
    else bad "$name: seen $seen, status $status"; { cat run.log; tail -n 20 "$file"; } 2>/dev/null | explain; fi
}
until_seen "SeaBIOS looks for something to boot" 240 debug.log 'No bootable device' -vga none -boot d \
    -device isa-debugcon,iobase=0x402,chardev=file:debug.log
if gcc -m32 -march=i586 -O2 -ffreestanding -fno-pic -fno-pie -no-pie -fno-stack-protector -fno-asynchronous-unwind-tables \
    -nostdlib -static -Wl,-N,-Ttext=0x200000,--build-id=none,-z,noexecstack -o ports.elf "$SOURCE/tests/fuzz/guest/ports.c" 2>run.log; then
    until_seen "a multiboot guest, and it strikes every chip" 240 beat.log 'S\.\.\.\.\.' -m 64 -kernel ports.elf -append seed=4 \
        -debugcon file:beat.log -device virtio-rng-pci
fi
leave
