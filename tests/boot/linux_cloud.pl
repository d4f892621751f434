#!/usr/bin/perl
# Debian's cloud kernel by -kernel: busybox shell, network, tsc as clocksource, no complaints; SMP
# in the long run.
use strict;
use warnings;
use Guest;
use Debian;
use Test::More;

my ($kernel, $initrd) = Debian::kernel('amd64', '', 'linux-image-cloud-amd64');
plan skip_all => 'the distribution\'s kernel cannot be fetched here' unless $kernel;

my @runs = map { my $engine = $_; map { [$engine, $_] } ($ENV{LENGTH} || '') eq 'long' ? (1, 2, 4) : (1) } Guest::engines();
for my $run (@runs) {
    my ($engine, $cpus) = @$run;
    my $g = Guest->start(args => ['-accel', $engine, '-m', '512', '-smp', $cpus, '-kernel', $kernel,
        '-initrd', $initrd, '-nic', 'user,model=virtio-net-pci',
        '-append', 'console=ttyS0 quiet']);
    my $up = ok($g->expect(qr/lyrebird:[^\n]*# /, 240), "$engine, -smp $cpus: shell")
        or diag $g->tail;
    SKIP: {
        skip 'no shell', 7 unless $up;
        is($g->shell('nproc'), $cpus, "$engine, -smp $cpus: processors");
        # The kernel settles on it about a second after its start; on a fast host we are here
        # before.
        my $wait = 'for i in 1 2 3 4 5; do grep -qx tsc $f && break; sleep 1; done; cat $f';
        is($g->shell("f=/sys/devices/system/clocksource/clocksource0/current_clocksource; $wait"), 'tsc', "$engine, -smp $cpus: clocksource");
        # Told by KVM's clock, and so neither measured nor refined.
        is($g->shell('dmesg | grep -cE "tsc: Detected 1000.000 MHz|Refined TSC"'), '1',
            "$engine, -smp $cpus: the counter's frequency is known");
        my $complaints = $g->shell('dmesg | grep -iE "warning:|bug:|lockup|unstable|stall|call trace|oops" | head');
        is($complaints, '', "$engine, -smp $cpus: nothing to complain about in dmesg");
        like($g->shell('ip -4 addr show eth0'), qr/inet 10\.0\.2\.15/,
            "$engine, -smp $cpus: network address by DHCP");
        $g->shell('ping -c 2 -W 5 10.0.2.2', 30);
        is($g->{status}, 0, "$engine, -smp $cpus: the gateway answers ping");
        $g->send("poweroff -f\n");
        is($g->wait_exit(60), 0, "$engine, -smp $cpus: power-off, exit status 0");
    }
    $g->stop;
}
done_testing;
