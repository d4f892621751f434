# Makes a folder with the development packages of another architecture, to cross build against, and prints
# its name: sh tests/cross/sysroot.sh ARCH (Debian's name: arm64, s390x, ...). Nothing is installed: the
# packages are fetched with a package manager state of their own and unpacked. Kept in $LYREBIRD_CACHE.
set -eu
: "${SOURCE:=$(cd "$(dirname "$0")/../.." && pwd)}"
. "$SOURCE/tests/boot/lib.sh"

arch=${1:?architecture is missing}
root=$LYREBIRD_CACHE/sysroot-$arch
packages="libc6-dev libcapstone-dev libslirp-dev libglib2.0-dev zlib1g-dev libpng-dev libcmocka-dev"

if [ "$(cat "$root/.whole" 2>/dev/null)" != "$packages" ]; then
    rm -rf "$root"
    mkdir -p "$root"
    apt_update "$arch" ""
    # Installing onto an empty system, as far as fetching goes: this brings what they depend on.
    apt_private "$arch" "" -qq -y --no-install-recommends --download-only install $packages >&2 ||
        give_up "packages for $arch cannot be fetched: $packages"
    for deb in "$LYREBIRD_CACHE/apt-$arch/cache/archives"/*.deb; do dpkg-deb -x "$deb" "$root"; done
    # Links such as libm.so -> /lib/… mean the foreign system's root.
    find "$root" -type l -lname '/*' | while read -r link; do
        ln -sfn "$root$(readlink "$link")" "$link"
    done
    rm -rf "$LYREBIRD_CACHE/apt-$arch/cache/archives"
    printf '%s\n' "$packages" > "$root/.whole"
fi
printf '%s\n' "$root"
