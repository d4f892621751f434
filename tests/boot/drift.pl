#!/usr/bin/perl
# The guest's clocks against the host's, for MINUTES (4; 60 is the hour that is asked for) under
# each engine of ACCEL (tcg,interp), one after another.
# length: long
#
# Debian's cloud kernel with two processors and a light load is asked for CLOCK_MONOTONIC,
# CLOCK_REALTIME and its clock chip's second at the start and at the end; it must keep `tsc` as its
# clocksource all the while.
# The counter runs at 1 GHz of the host's clock, and KVM's clock tells Linux so: there must be no
# drift but what the measurement may err by.
use strict;
use warnings;
use Guest;
use Debian;
use POSIX ();
use Test::More;
use Time::HiRes qw(clock_gettime sleep CLOCK_MONOTONIC CLOCK_REALTIME);

my $minutes = $ENV{MINUTES} || 4;
my ($kernel, $initrd) = Debian::kernel('amd64', '', 'linux-image-cloud-amd64');
plan skip_all => 'the distribution\'s kernel cannot be fetched here' unless $kernel;

# How far the guest's clocks are ahead of the host's: { monotonic => [seconds, give or take],
# realtime => … }. Every answer was read between our question and its arrival; together many of them
# leave a narrow window.
my %clocks = (monotonic => ['m', CLOCK_MONOTONIC, 1e9], realtime => ['r', CLOCK_REALTIME, 1e6]);
sub offsets {
    my ($g) = @_;
    my %window;
    # Short lines, no echo, no prompt: the port passes eleven bytes a millisecond.
    $g->send('stty -echo; echo LIST""ENING; while read q; do case $q in q) break;; m) while read a b c d; do '
        . 'case $a in now) echo "=$c"; break;; esac; done < /proc/timer_list;; '
        . 'r) adjtimex | sed -n "N;s/.*tv_sec: *\([0-9]*\).*tv_usec: */=\1 /p";; esac; done; stty echo' . "\n");
    $g->expect(qr/LISTENING/, 60) or return undef;
    for my $name (sort keys %clocks) {
        my ($letter, $clock, $unit) = @{ $clocks{$name} };
        my ($low, $high) = (-9**9, 9**9);
        for (1 .. 100) {
            my $before = clock_gettime($clock);
            $g->send("$letter\n");
            $g->expect(qr/=\d+ ?\d*\r*\n/, 60) or return undef;
            my $after = clock_gettime($clock);
            my ($first, $second) = substr($g->{text}, 0, $g->{mark}) =~ /=(\d+) ?(\d*)\r*\n\z/;
            my $guest = length $second ? $first + $second / $unit : $first / $unit;
            $low = $guest - $after if $guest - $after > $low;
            $high = $guest - $before if $guest - $before < $high;
        }
        $window{$name} = [($low + $high) / 2, abs($high - $low) / 2];
    }
    $g->send("q\n");
    return \%window;
}

# The clock chip's second as the host sees it begin.
sub chip_offset {
    my ($g) = @_;
    my $wait = 'f=/sys/class/rtc/rtc0/since_epoch; a=$(cat $f); while [ "$(cat $f)" = $a ]; do :; done; cat $f';
    my $answer = $g->shell($wait, 60);
    return undef unless ($answer // '') =~ /^(\d+)$/;
    return $1 - clock_gettime(CLOCK_REALTIME);
}

for my $engine (split /,/, $ENV{ACCEL} || 'tcg,interp') {
    my $g = Guest->start(args => ['-accel', $engine, '-m', '256', '-smp', '2', '-kernel', $kernel,
        '-initrd', $initrd, '-nic', 'none',
        '-append', 'console=ttyS0 quiet']);
    my $up = ok($g->expect(qr/lyrebird:[^\n]*# /, 240), "$engine: shell") or diag $g->tail;
    SKIP: {
        skip 'no shell', 1 unless $up;
        $g->shell('(while :; do head -c 300000 /dev/zero | md5sum >/dev/null; sleep 1; done) & sleep 10', 120);
        my $began = clock_gettime(CLOCK_MONOTONIC);
        my ($first, $chip) = (scalar offsets($g), scalar chip_offset($g));
        my $switched = 0;
        while (clock_gettime(CLOCK_MONOTONIC) - $began < $minutes * 60) {
            sleep 20;
            $switched++ if ($g->shell('cat /sys/devices/system/clocksource/clocksource0/current_clocksource', 60) // '') ne 'tsc';
        }
        my $passed = clock_gettime(CLOCK_MONOTONIC) - $began;
        my ($last, $chip_last) = (scalar offsets($g), scalar chip_offset($g));
        is($switched, 0, "$engine: the clocksource was tsc whenever looked at");
        ok($first && $last, "$engine: the guest's clocks can be read") or skip 'no clocks', 1;
        for my $name (sort keys %$first) {
            my $drift = $last->{$name}[0] - $first->{$name}[0];
            my $blur = $last->{$name}[1] + $first->{$name}[1];
            diag sprintf '%s, %s: %+.2f ms in %.1f minutes, %+.2f ppm, give or take %.2f ms',
                $engine, $name, $drift * 1e3, $passed / 60,
                $drift / $passed * 1e6, $blur * 1e3;
            cmp_ok(abs($drift), '<', $blur + 1e-6 * $passed,
                "$engine: the guest's $name clock keeps to the host's");
        }
        ok(defined $chip && defined $chip_last && abs($chip_last - $chip) < 1, "$engine: so does the clock chip")
            or diag $chip // 'nothing', ' then ', $chip_last // 'nothing';
        diag sprintf '%s, clock chip: %+.0f ms', $engine, ($chip_last - $chip) * 1e3
            if defined $chip && defined $chip_last;
        my $tsc = $g->shell('dmesg | grep -E "tsc:|clocksource:"');
        diag map { "$engine: $_\n" } grep { /MHz/ } split /\n/, $tsc;
        is($g->shell('dmesg | grep -iE "warning:|bug:|lockup|unstable|skew|stall|call trace|oops" | head'), '',
            "$engine: nothing to complain about in dmesg");
        $g->send("poweroff -f\n");
        is($g->wait_exit(60), 0, "$engine: power-off, exit status 0");
    }
    $g->stop;
}
done_testing;
