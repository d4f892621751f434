#!/usr/bin/perl
# What one sees of the translator while firmware runs: info jit, -d in_asm,op,out_asm, -perfmap,
# -jitdump, symbols.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use Guest;
use Test::More;
use Time::HiRes qw(sleep);

$Guest::emulator = abs_path($Guest::emulator);
plan skip_all => 'no translator for this host' if `uname -m` !~ /x86_64/ || ($ENV{SANITIZED} || '');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
open my $map, '>', 'System.map' or die;
print $map "00000000000e0000 T firmware\nnot a line\n00000000ffffffff D data\n";
close $map;

my $g = Guest->start(monitor => 1, args => [qw(-m 32 -nic none -vga none -perfmap -jitdump),
    '-accel', 'jit,symbols=System.map',
    '-d', 'in_asm,op,out_asm', '-D', "$dir/log"]);
my $pid = $g->{pid};
my $info = '';
for (1 .. 100) {
    $info = $g->monitor('info jit');
    plan skip_all => 'this build has no translator'
        if $info =~ /^code memory: 0 KiB used of 0 KiB/m;
    last if $info =~ /^\s*(\d+)  blocks translated/m && $1 > 300;
    sleep 0.1;
}
like($info, qr/\d  blocks translated/, 'info jit: blocks');
like($info, qr/nanoseconds translating/, 'translation time');
like($info, qr/by operation:\n\s+\d+  [A-Z]+/, 'exits by operation');
like($info, qr/soft TLB:\n.*\d  entries filled for a read/s, 'TLB misses by cause');
ok(-s "/tmp/perf-$pid.map", 'perf map');
$g->monitor('quit');
$g->wait_exit(20);

open my $file, '<', "/tmp/perf-$pid.map" or die;
my @names = <$file>;
close $file;
unlink "/tmp/perf-$pid.map";
is(scalar(grep { !/^[0-9a-f]+ [0-9a-f]+ \S/ } @names), 0,
    'every line of it is address, size, name');
ok((grep { / firmware\+0x/ } @names), 'guest code is named by symbol');

open $file, '<:raw', "jit-$pid.dump" or die;
my $dump = do { local $/; <$file> };
my ($magic, $version, $head) = unpack 'LLL', $dump;
is($magic, 0x4a695444, 'jitdump: magic');
my ($at, $loads, $closed, $bad) = ($head, 0, 0, 0);
while ($at + 16 <= length $dump && !$bad) {
    my ($id, $size) = unpack 'LL', substr $dump, $at, 8;
    if ($id == 0) {
        my (undef, undef, $vma, undef, $length) = unpack 'LLQQQ', substr $dump, $at + 16, 32;
        my $name = unpack 'Z*', substr $dump, $at + 56;
        $bad = 1 if $size != 56 + length($name) + 1 + $length;
        $loads++;
    }
    $closed = 1 if $id == 3;
    $bad = 1 if $size < 16;
    $at += $size;
}
ok(!$bad && $at == length $dump && $closed && $loads > 300,
    "jitdump: $loads records of code, whole to its end");

open $file, '<', "$dir/log" or die;
my $log = do { local $/; <$file> };
like($log, qr/^cpu0 block firmware\+0x\w+ at \w+: \d+ instructions.*\n(?:        .*\n)+  \w+  [a-z].*\n    [A-Z]+ .*flags defined.*\n        \w+  [a-z]/m,
    'listing: guest instruction, uop, host code');
done_testing;
