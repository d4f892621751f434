#!/usr/bin/perl
# The bare-metal guests and the firmware with the translator under stress: switches that make its
# rare paths common. Quick: some guests, all switches at once; long: every guest under each, and
# boots of GRUB and the cloud kernel.
# usage: stress.pl [SWITCHES…], a switch as behind -accel jit,
use strict;
use warnings;
no warnings 'qw'; # switches have commas
use Debian;
use File::Temp qw(tempdir);
use FindBin;
use Guest;
use Test::More;

plan skip_all => 'no translator for this host' unless grep { $_ eq 'jit' } Guest::engines();
my $long = ($ENV{LENGTH} || 'quick') ne 'quick';
my @alone = ('hot=5,threshold=1', 'hot=5,threshold=1,background=off', qw(tlb-entries=4
    random-exits=20 tb-size=64K threshold=1 force-cold=on no-link=on
    no-vectors=on fail-groups=on lockstep=1));
my $mild = 'tlb-entries=8,random-exits=100,threshold=1';
my @switches = @ARGV ? @ARGV : $long ? (@alone, $mild) : ($mild, 'lockstep=20');
my @topics = $long ? () : qw(paging exceptions smc realmode);

# The guests' own TAP, told in one line.
sub guests {
    my ($switch) = @_;
    my $dir = tempdir(CLEANUP => 1); # the guests are compiled there: another run may be under way
    local $ENV{EMULATOR_ARGS} = "-accel jit,$switch";
    local $ENV{SMP} = 1 if $switch =~ /lockstep/; # no others
    local $ENV{BUILD} = $dir;
    open my $out, '-|', $^X, "-I$FindBin::Bin/../boot", "$FindBin::Bin/guests.pl", @topics or die;
    my ($good, @bad) = (0);
    while (my $line = <$out>) {
        plan skip_all => 'no x86 compiler' if $line =~ /^1\.\.0/;
        if ($line =~ /^ok/) { $good++ } elsif ($line =~ /^not ok/) { push @bad, $line }
    }
    close $out;
    ok($? == 0 && !@bad && $good, "$switch: $good checks of the bare-metal guests") or diag @bad;
}

sub boot {
    my ($switch, $kernel, $initrd, $cpus) = @_;
    my $g = Guest->start(args => ['-accel', "jit,$switch", '-m', '512', '-smp', $cpus, '-kernel',
        $kernel, '-initrd', $initrd,
        '-nic', 'none', '-append', 'console=ttyS0 quiet']);
    ok($g->expect(qr/lyrebird:[^\n]*# /, 600), "$switch, -smp $cpus: the cloud kernel's shell")
        or diag $g->tail;
    # Sums that a wrong byte anywhere would change.
    my $sum = $g->shell('for i in 1 2 3; do dd if=/bin/busybox bs=4k 2>/dev/null | gzip | gunzip | md5sum; done | sort -u | wc -l', 300);
    is($sum, 1, "$switch, -smp $cpus: three times the same sum") or diag $g->tail;
    my $said = $g->shell('dmesg | grep -iE "bug:|oops|call trace|segfault" | head', 60);
    is($said, '', "$switch, -smp $cpus: nothing in dmesg");
    $g->send("poweroff -f\n");
    is($g->wait_exit(120), 0, "$switch, -smp $cpus: power-off");
    $g->stop;
}

# 16-bit and 32-bit code in turns, until nothing is found to start; long: GRUB from a floppy.
sub firmware {
    my ($switch, @disk) = @_;
    my $g = Guest->start(args => ['-accel', "jit,$switch", '-m', '32', '-nic', 'none', @disk],
        monitor => 1, no_serial => 1);
    my $last = @disk ? qr/highlighted entry will be executed/ : qr/No bootable device/;
    ok($g->screen($last, 600), "$switch: SeaBIOS" . (@disk ? ' and GRUB' : ''))
        or diag $g->{screen};
    $g->monitor('quit');
    is($g->wait_exit(20), 0, "$switch: no difference found") if $switch =~ /lockstep/;
    $g->stop;
}

guests($_) for @switches;
firmware($_) for @switches;
if ($long) {
    my ($kernel, $initrd) = Debian::kernel('amd64', '', 'linux-image-cloud-amd64');
    SKIP: {
        skip 'the distribution\'s kernel cannot be fetched here', 1 unless $kernel;
        for my $switch (@switches) {
            boot($switch =~ s/lockstep=1\b/lockstep=50/r, $kernel, $initrd, $_)
                for $switch =~ /lockstep/ ? 1 : (1, 2);
        }
    }
}
if ($long) {
    my $folder = Debian::lib('unpacked amd64 "" grub-rescue-pc');
    my $image = $folder && "$folder/usr/lib/grub-rescue/grub-rescue-floppy.img";
    SKIP: {
        skip 'no GRUB floppy', 1 unless $image && -r $image;
        my $floppy = tempdir(CLEANUP => 1) . '/grub.img'; # as a medium of 1.44 MB
        system "cp '$image' '$floppy' && truncate -s 1474560 '$floppy'";
        firmware(s/lockstep=1\b/lockstep=30/r, '-boot', 'a', '-fda', $floppy) for @switches;
    }
}
done_testing;
