#!/usr/bin/perl
# -icount: runs with the same inputs end in the same state, whichever engine runs them. Quick: a
# boot sector with disk, timer and random numbers; long: the cloud kernel as well, on one and two
# processors.
use strict;
use warnings;
no warnings 'qw'; # compiler options have commas
use Debian;
use File::Temp qw(tempdir);
use Guest;
use Test::More;
use Time::HiRes qw(sleep);
use X86;

my $source = $ENV{SOURCE} || '.';
my $long = ($ENV{LENGTH} || 'quick') ne 'quick';
my $dir = tempdir(CLEANUP => 1);

for my $bad (['shift=auto', qr/shift=auto: not supported/], ['shift=11', qr/0 to 10/],
    ['sleep=off', qr/shift= is missing/],
    ['shift=3,rr=record', qr/rr=record: not supported/], ['shift=3,align=on', qr/align=on: not supported/]) {
    my $said = qx($Guest::emulator -icount $bad->[0] -display none </dev/null 2>&1);
    like($said, $bad->[1], "-icount $bad->[0] is refused by name");
}

# To the guest's power-off: its serial output, the machine's hash, its instructions.
sub run {
    my (@args) = @_;
    my $g = Guest->start(monitor => 1, args => ['-nic', 'none', '-no-shutdown', '-no-reboot',
        '-rtc', 'base=2024-02-29', @args]);
    my $end = time + 600 * $Guest::slow;
    sleep 0.1 while time < $end && $g->_read_some(0.1) && $g->monitor('info status') !~ /paused/;
    my ($hash) = $g->monitor('info hash') =~ /^state ([0-9a-f]{64})$/m;
    my @counts = $g->monitor('info registers') =~ /^instructions=(\d+)/mg;
    $g->_read_some(0.1);
    my $text = $g->{text};
    $g->monitor('quit');
    $g->wait_exit(20);
    return { text => $text, hash => $hash, counts => "@counts" };
}

sub same {
    my ($name, $first, $other) = @_;
    is($other->{text}, $first->{text}, "$name: serial output");
    is($other->{counts}, $first->{counts}, "$name: instructions");
    is($other->{hash}, $first->{hash}, "$name: state");
}

my $disk = "$dir/disk";
SKIP: {
    my $cc = X86::compiler() or skip $X86::missing, 10;
    system($cc, qw(-m32 -nostdlib -static -Wl,-Ttext=0x7c00,--oformat=binary,--build-id=none -o),
        $disk, "$source/tests/machine/icount_sector.S") == 0 or die;
    truncate $disk, 1 << 20;
    my @machine = ('-m', 16, '-vga', 'none', '-drive', "file=$disk,format=raw,snapshot=on");
    my $first = run(@machine, '-icount', 'shift=3,sleep=off');
    like($first->{text}, qr/done/, 'the boot sector ran to its end') or diag $first->{text};
    like($first->{hash} // '', qr/^[0-9a-f]{64}$/, 'a hash');
    same('again', $first, run(@machine, '-icount', 'shift=3,sleep=off'));
    same('interpreted', $first, run(@machine, '-icount', 'shift=3,sleep=off', '-accel', 'interp'));
    same('with random exits', $first, run(@machine, '-icount', 'shift=3,sleep=off', '-accel', 'jit,threshold=1,random-exits=40'))
        if grep { $_ eq 'jit' } Guest::engines();
    my $awake = run(@machine, '-icount', 'shift=3,sleep=on');
    is($awake->{text}, $first->{text}, 'sleep=on: serial output');
    my $other = run(@machine, '-icount', 'shift=3,sleep=off', '-seed', '7');
    isnt($other->{hash}, $first->{hash}, 'another seed, another state');
}
if ($long) {
    my ($kernel, $initrd) = Debian::kernel('amd64', '', 'linux-image-cloud-amd64');
    SKIP: {
        skip 'the distribution\'s kernel cannot be fetched here', 1 unless $kernel;
        for my $cpus (1, 2) {
            my @machine = ('-m', 256, '-smp', $cpus, '-kernel', $kernel, '-initrd', $initrd,
                '-icount', 'shift=1,sleep=off', '-append',
                'console=ttyS0 panic=-1 rdinit=/bin/busybox -- sh -c "b=/bin/busybox; $b md5sum $b; $b gzip -c $b | $b md5sum; $b poweroff -f"');
            my $first = run(@machine);
            like($first->{text}, qr/[0-9a-f]{32}  \/bin\/busybox.*Power down/s,
                "the cloud kernel, -smp $cpus") or diag substr $first->{text}, -1000;
            same("again, -smp $cpus", $first, run(@machine));
            same("interpreted, -smp $cpus", $first, run(@machine, '-accel', 'interp'));
            same("with few TLB entries, -smp $cpus", $first, run(@machine, '-accel',
                'jit,tlb-entries=8,threshold=2'));
        }
    }
}
done_testing;
