#!/bin/sh
# Builds for z/Architecture, big-endian and tries the result under user-mode emulation.
# length: ci
set -eu
arch=s390x triplet=s390x-linux-gnu emulator=qemu-s390x-static
. "$SOURCE/tests/cross/cross.sh"
