#!/bin/sh
# length: long
# The sanitizers' builds boot a system without a report: boot.pl.
exec perl -I"$SOURCE/tests/boot" "$SOURCE/tests/sanitize/boot.pl"
