#!/usr/bin/perl
# What a guest asks the board for by a write, power-off, reset or an end by the debug exit, comes before its next
# instruction.
use strict;
use warnings;
use File::Temp qw(tempdir);
use Guest;
use Test::More;
use lib ($ENV{SOURCE} || '.') . '/tests/debug';
use Tiny;

my $dir = tempdir(CLEANUP => 1);

# VALUE to PORT, a byte or a word, then an X to the serial port.
sub kernel {
    my ($name, $port, $value) = @_;
    my $out = pack('C V C V', 0xba, $port, 0xb8, $value) . ($value < 256 ? "\xee" : "\x66\xef");
    return Tiny::kernel("$dir/$name", $out . Tiny::out_code(0x3f8, ord 'X'));
}

my @ways = (
    ['power-off', 0x604, 0x2000, 0],
    ['reset', 0xcf9, 0x0006, 0, '-no-reboot'],
    ['debug exit', 0xf4, 0x0003, 7, '-device', 'isa-debug-exit,iobase=0xf4,iosize=0x4']);
for my $way (@ways) {
    my ($name, $port, $value, $status, @args) = @$way;
    my $kernel = kernel($name =~ s/ /-/r, $port, $value);
    for my $accel (qw(interp jit)) {
        my $said = 0;
        for (1 .. 8) {
            my $text = qx(timeout 20 $Guest::emulator -accel $accel -display none -monitor none -serial stdio -nic none -m 16 @args -kernel $kernel </dev/null 2>&1);
            is($? >> 8, $status, "$accel: $name: exit status") if $_ == 1;
            $said++ if $text =~ /X/;
        }
        is($said, 0, "$accel: $name: nothing behind it has run");
    }
}
done_testing;
