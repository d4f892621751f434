#!/usr/bin/perl
# Debian's cloud kernel with four processors, started again and again: modules come and go, work
# runs on all processors with one right result, the time stamp counter is found to be what it is,
# nothing to complain about.
# length: long
# ROUNDS: starts under the host's best engine (10); a third of it under the interpreter.
use strict;
use warnings;
use Guest;
use Debian;
use Test::More;

my ($kernel, $initrd) = Debian::kernel('amd64', '', 'linux-image-cloud-amd64');
plan skip_all => 'the distribution\'s kernel cannot be fetched here' unless $kernel;

my $modules = 'n=0; while [ $n -lt 20 ]; do n=$((n+1)); rmmod virtio_net net_failover failover; '
    . 'for m in /modules/*; do insmod $m 2>/dev/null; done; done; lsmod | grep -c ^virtio_net';
my $work = 'for a in 1 2 3 4; do (for b in 1 2 3 4 5 6; do head -c 2000000 /dev/zero | md5sum; done) & done | sort -u; wait';
my $rounds = $ENV{ROUNDS} || 10;
for my $run ((map { ['tcg', $_] } 1 .. $rounds), map { ['interp', $_] } 1 .. int(($rounds + 2) / 3)) {
    my $name = "$run->[0], round $run->[1]";
    my $g = Guest->start(args => ['-accel', $run->[0], '-m', '256', '-smp', '4', '-kernel', $kernel,
        '-initrd', $initrd,
        '-nic', 'user,model=virtio-net-pci', '-append', 'console=ttyS0 quiet']);
    my $up = ok($g->expect(qr/lyrebird:[^\n]*# /, 600), "$name: shell") or diag $g->tail;
    SKIP: {
        skip 'no shell', 1 unless $up;
        is($g->shell($modules, 900), 1, "$name: modules taken out and put in");
        is($g->shell($work, 900), '6bde2aa6394fde37e21748bc0578113b  -',
            "$name: every processor's sums are right");
        $g->shell('sleep 2');
        my $tsc = $g->shell('dmesg | sed -n "s/.*tsc: .*\(Detected\|Refined\).* \([0-9]*\)\.[0-9]* MHz.*/\2/p" | sort -u') // '';
        ok(!grep({ $_ < 995 || $_ > 1004 } split /\n/, $tsc), "$name: 1 GHz") or diag $tsc;
        my $complaints = $g->shell('dmesg | grep -iE "warning:|bug:|lockup|unstable|stall|call trace|oops" | head');
        is($complaints, '', "$name: nothing to complain about in dmesg");
        $g->send("poweroff -f\n");
        is($g->wait_exit(120), 0, "$name: power-off, exit status 0");
    }
    $g->stop;
}
done_testing;
