# What the boot tests and the demo share: packages of the distribution, unpacked but not installed, and
# an initial RAM disk made of them. Everything is kept in $LYREBIRD_CACHE. POSIX sh; source it.

: "${LYREBIRD_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/lyrebird}"
: "${LYREBIRD:=./lyrebird}"

say() { [ -n "${QUIET:-}" ] || printf '%s\n' "$*" >&2; }
give_up() { printf '%s\n' "$*" >&2; exit 1; }

# A package manager state of our own, for ARCH, so that nothing is installed and no root is needed.
apt_private() { # ARCH SUITE-OR-EMPTY command...
    apt_arch=$1 apt_suite=$2; shift 2
    apt_dir=$LYREBIRD_CACHE/apt-$apt_arch${apt_suite:+-$apt_suite}
    mkdir -p "$apt_dir/lists/partial" "$apt_dir/cache/archives/partial" "$apt_dir/preferences.d"
    [ -e "$apt_dir/status" ] || : > "$apt_dir/status"
    set -- -o APT::Architecture="$apt_arch" -o APT::Architectures="$apt_arch" -o Dir::State="$apt_dir" \
        -o Dir::State::lists="$apt_dir/lists" -o Dir::State::status="$apt_dir/status" \
        -o Dir::Cache="$apt_dir/cache" -o Debug::NoLocking=1 -o APT::Sandbox::User=root -o APT::Get::List-Cleanup=0 "$@"
    if [ -n "$apt_suite" ]; then
        # The same archive, another suite of it.
        uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -v security | head -n 1)
        keys=$(ls /usr/share/keyrings/debian-archive-keyring.gpg 2>/dev/null || true)
        printf 'deb %s%s %s main\n' "${keys:+[signed-by=$keys] }" "$uri" "$apt_suite" > "$apt_dir/sources.list"
        set -- -o Dir::Etc::sourcelist="$apt_dir/sources.list" -o Dir::Etc::sourceparts=/dev/null "$@"
    fi
    command "${APT_TOOL:-apt-get}" "$@"
}

apt_update() { # ARCH SUITE
    stamp=$LYREBIRD_CACHE/apt-$1${2:+-$2}/updated
    [ -e "$stamp" ] && [ -z "$(find "$stamp" -mtime +0 2>/dev/null)" ] && return 0
    say "Reading the distribution's package list…"
    if apt_private "$1" "$2" -qq update >&2; then : > "$stamp"
    elif ls "$apt_dir"/lists/*Packages* >/dev/null 2>&1; then say "Some of the list cannot be had now; going on with what there is."
    else give_up "the distribution's package list cannot be had"; fi
}

# Unpacks PACKAGE (or what a metapackage depends on) into a folder and prints its name.
unpacked() { # ARCH SUITE PACKAGE
    apt_update "$1" "$2"
    real=$(APT_TOOL=apt-cache apt_private "$1" "$2" depends "$3" 2>/dev/null |
        sed -n 's/^  Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
    real=${real:-$3}
    real=${real%%:*}
    folder=$LYREBIRD_CACHE/$1${2:+-$2}/$real
    if [ ! -e "$folder/.whole" ]; then
        say "Fetching $real…"
        mkdir -p "$folder" "$LYREBIRD_CACHE/deb"
        (cd "$LYREBIRD_CACHE/deb" && apt_private "$1" "$2" ${QUIET:+-qq} download "$real" >&2) ||
            give_up "package $real cannot be fetched"
        deb=$(ls -t "$LYREBIRD_CACHE/deb/$real"_*.deb | head -n 1)
        dpkg-deb -x "$deb" "$folder"
        rm -f "$deb"
        : > "$folder/.whole"
    fi
    printf '%s\n' "$folder"
}

# Unpacks what matches PATTERN of the distribution's source package PACKAGE into a folder and prints its name.
source_unpacked() { # PACKAGE PATTERN
    folder=$LYREBIRD_CACHE/source/$1
    if [ ! -e "$folder/.whole" ]; then
        uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -v security | head -n 1)
        suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
        keys=$(ls /usr/share/keyrings/debian-archive-keyring.gpg 2>/dev/null || true)
        lists=$LYREBIRD_CACHE/apt-source
        mkdir -p "$folder" "$lists/lists/partial"
        printf 'deb-src %s%s %s main\n' "${keys:+[signed-by=$keys] }" "$uri" "$suite" > "$lists/sources.list"
        set -- "$1" "$2" -qq -o Dir::State::lists="$lists/lists" -o Dir::Etc::sourcelist="$lists/sources.list" \
            -o Dir::Etc::sourceparts=/dev/null -o Debug::NoLocking=1 -o APT::Sandbox::User=root
        package=$1 pattern=$2; shift 2
        say "Fetching the source of $package…"
        (cd "$folder" && apt-get "$@" update >&2 && apt-get "$@" --download-only source "$package" >&2) ||
            give_up "the source of $package cannot be fetched"
        archive=$(ls "$folder/${package}"_*.orig.tar.* | grep -v asc | head -n 1)
        tar -xf "$archive" -C "$folder" --wildcards --strip-components=1 "$pattern"
        rm -f "$folder/${package}"_*
        : > "$folder/.whole"
    fi
    printf '%s\n' "$folder"
}

# Makes an initial RAM disk: busybox, the modules named (with what they need), and an init script.
make_initrd() { # OUTPUT BUSYBOX-FOLDER KERNEL-FOLDER INIT-SCRIPT MODULE...
    out=$1 busybox=$2 kernel=$3 init=$4; shift 4
    root=$(mktemp -d)
    mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/tmp" "$root/modules" "$root/etc" "$root/root" "$root/usr/share/udhcpc"
    cp "$busybox/bin/busybox" "$root/bin/busybox" 2>/dev/null || cp "$busybox/usr/bin/busybox" "$root/bin/busybox"
    cp "$init" "$root/init"; chmod 755 "$root/init"
    cp "$SOURCE/tests/boot/udhcpc.script" "$root/usr/share/udhcpc/default.script"; chmod 755 "$root/usr/share/udhcpc/default.script"
    modules=$(ls -d "$kernel"/lib/modules/* "$kernel"/usr/lib/modules/* 2>/dev/null | head -n 1)
    number=10
    for m; do
        f=$(find "$modules" -name "$m.ko*" | head -n 1)
        [ -n "$f" ] || continue
        case $f in
        *.xz) xz -dc "$f" > "$root/modules/$number-$m.ko";;
        *.zst) zstd -qdc "$f" > "$root/modules/$number-$m.ko";;
        *) cp "$f" "$root/modules/$number-$m.ko";;
        esac
        number=$((number + 1))
    done
    (cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0) > "$out"
    rm -rf "$root"
}

kernel_of() { ls "$1"/boot/vmlinuz-* | head -n 1; }
