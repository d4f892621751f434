#!/bin/sh
# Builds for 64-bit ARM and tries the result under user-mode emulation.
# length: ci
set -eu
arch=arm64 triplet=aarch64-linux-gnu emulator=qemu-aarch64-static
. "$SOURCE/tests/cross/cross.sh"
