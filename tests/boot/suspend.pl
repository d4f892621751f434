#!/usr/bin/perl
# Suspend to RAM: a Linux guest goes to sleep and is woken by its clock, a key, the power button and
# the monitor; its memory, its processors and its network are as they were. Through SeaBIOS.
# length: long
use strict;
use warnings;
use Guest;
use Debian;
use Test::More;
use Time::HiRes qw(sleep time);

my ($kernel, $initrd) = Debian::kernel('amd64', '', 'linux-image-cloud-amd64');
plan skip_all => 'the distribution\'s kernel cannot be fetched here' unless $kernel;

sub suspended {
    my ($g) = @_;
    my $end = time + 120;
    while (time < $end) {
        return 1 if $g->monitor('info status') =~ /suspended/;
        sleep 0.5;
    }
    return 0;
}

for my $cpus (1, 2) {
    my $name = "-smp $cpus";
    my $g = Guest->start(args => ['-m', '256', '-smp', $cpus, '-kernel', $kernel, '-initrd',
        $initrd, '-nic', 'user,model=virtio-net-pci',
        '-append', 'console=ttyS0 quiet no_console_suspend'], monitor => 1);
    my $up = ok($g->expect(qr/lyrebird:[^\n]*# /, 240), "$name: shell") or diag $g->tail;
    SKIP: {
        skip 'no shell', 1 unless $up;
        like($g->shell('cat /sys/power/state /sys/power/mem_sleep'), qr/mem.*deep/s,
            "$name: the guest can suspend to RAM");
        $g->shell('dd if=/dev/urandom of=/root/memory bs=1M count=40 2>/dev/null; md5sum /root/memory > /root/sum', 120);
        like($g->monitor('system_wakeup'), qr/not in suspended state/, "$name: nothing to wake");
        for (['the clock', undef], ['a key', 'sendkey shift'], ['the power button', 'system_powerdown'], ['the monitor', 'system_wakeup']) {
            my ($by, $command) = @$_;
            my $alarm = $command ? '' : 'echo 0 > /sys/class/rtc/rtc0/wakealarm; echo +6 > /sys/class/rtc/rtc0/wakealarm; ';
            # In pieces, so that the echo is not taken for the answer.
            $g->send("${alarm}echo mem > /sys/power/state; echo AW''AKE\n");
            my $asleep = suspended($g);
            ok($asleep, "$name, $by: asleep") or diag $g->tail;
            if ($command) { sleep 2; $g->monitor($command) }
            ok($g->expect(qr/AWAKE/, 120), "$name, $by: awake") or diag $g->tail;
            is($g->shell('nproc'), $cpus, "$name, $by: processors");
        }
        cmp_ok(abs($g->shell('date +%s') - time), '<', 10,
            "$name: the guest's clock went on while it was asleep");
        $g->shell('md5sum -c /root/sum', 60);
        is($g->{status}, 0, "$name: memory as it was");
        $g->shell('ping -c 2 -W 5 10.0.2.2', 30);
        is($g->{status}, 0, "$name: the network works on") or diag $g->shell('dmesg | tail -30');
        is($g->shell('dmesg | grep -iE "bug:|lockup|unstable|stall|call trace|oops" | head'), '',
            "$name: nothing to complain about in dmesg");
        # A reset wakes, too.
        $g->send("echo mem > /sys/power/state\n");
        ok(suspended($g), "$name: asleep again");
        $g->monitor('system_reset');
        ok($g->expect(qr/This is Linux.*?lyrebird:[^\n]*# /s, 240),
            "$name: a reset starts it afresh") or diag $g->tail;
        $g->send("poweroff -f\n");
        is($g->wait_exit(60), 0, "$name: power-off, exit status 0");
    }
    $g->stop;
}
done_testing;
