#!/usr/bin/perl
# A guest that writes garbage to every port and register there is: whatever it does, the emulator
# goes on or leaves in good order. perl tests/fuzz/ports.pl [-seed N] [-seconds N]; quick: 5 s,
# long: 60 s.
use strict;
use warnings;
use File::Temp qw(tempdir);
use POSIX ();
use Test::More;
use Time::HiRes qw(time sleep);
use X86;

my $emulator = $ENV{LYREBIRD} || './lyrebird';
my $source = $ENV{SOURCE} || '.';
my $long = ($ENV{LENGTH} || 'quick') eq 'long';
my $slow = $ENV{SLOW} || 1; # see Guest.pm
my ($seed, $seconds, $only) = ($long ? time % 1000000 : 1, $long ? 60 : 5, 0);
while (@ARGV >= 2) {
    my ($name, $number) = splice @ARGV, 0, 2;
    if ($name eq '-seed') { ($seed, $only) = ($number, 1) } elsif ($name eq '-seconds') { $seconds = $number } else { die "unknown: $name" }
}
$seed = int $seed;
my $each = $only ? $seconds : $long ? 7.5 : 2.5; # a run: another seed, another board

my $dir = tempdir(CLEANUP => 1);
my $guest = "$dir/ports.elf";
my @build = (qw(-m32 -march=i586 -O2 -Wall -Wextra -Werror -ffreestanding -fno-pic -fno-pie -no-pie -fno-stack-protector),
    qw(-fno-asynchronous-unwind-tables -nostdlib -static),
    "-Wl,-N,-Ttext=0x200000,--build-id=none,-z,noexecstack,--no-warn-rwx-segments");
my $cc = X86::compiler() or plan skip_all => $X86::missing;
system("$cc @build -o $guest $source/tests/fuzz/guest/ports.c") == 0
    or die 'the guest does not compile';

sub slurp { my ($path) = @_; open my $f, '<:raw', $path or return ''; local $/; return scalar <$f> }
sub sparse { my ($name, $size) = @_; open my $f, '>', "$dir/$name" or die; truncate $f, $size; close $f; return "$dir/$name" }

my ($disk, $disk2, $cd, $floppy) = (sparse('disk', 32 << 20), sparse('disk2', 8 << 20),
    sparse('cd', 4 << 20), sparse('floppy', 1440 << 10));
my @boards = (
    ['-drive', "file=$disk,format=raw", '-cdrom', $cd, '-fda', $floppy, '-nic',
    'user,restrict=on,model=e1000', '-parallel', 'file:/dev/null'],
    ['-drive', "file=$disk,if=virtio,format=raw", '-drive', "file=$disk2,if=none,id=two,format=raw",
    '-device', 'virtio-blk-pci,drive=two',
     '-nic', 'user,restrict=on,model=virtio-net-pci', '-device', 'virtio-rng-pci', '-device',
     'virtio-balloon-pci', '-smp', 2],
    ['-hda', $disk, '-hdb', $disk2, '-cdrom', $cd, '-device', 'virtio-rng-pci', '-vga', 'none',
    '-nic', 'none', '-no-hpet'],
    ['-hda', $disk, '-nic', 'user,restrict=on', '-d',
    'guest_errors,unimp,int,mmu,device,ioport,mmio,net,disk', '-D', '/dev/null'],
);

# One run with SEED: what was wrong ('' if nothing), and how many heartbeats.
sub one {
    my ($number) = @_;
    my $beat = "$dir/beat";
    my $board = $boards[$number % @boards];
    my @command = ($emulator, qw(-m 64 -display none -serial null -monitor none -snapshot),
        '-kernel', $guest, '-append', "seed=$number",
        '-debugcon', "file:$beat", @$board);
    unlink $beat;
    my $pid = fork();
    die "fork: $!" unless defined $pid;
    if (!$pid) {
        open STDIN, '<', '/dev/null'; open STDOUT, '>', "$dir/out"; open STDERR, '>&', \*STDOUT;
        exec @command or POSIX::_exit(127);
    }
    my ($end, $status, $began, $size, $grown) = (time + 60 * $slow, undef, 0, 0, 0);
    while (time < $end) {
        if (waitpid($pid, POSIX::WNOHANG()) == $pid) { $status = $?; last }
        # The time counts from the guest's first sign of life.
        if (!$began && -s $beat) { $began = 1; $grown = time; $end = time + $each }
        # A guest that overwrote itself does nothing more.
        if ($began && $size != (-s $beat)) { $size = -s $beat; $grown = time }
        last if $began && time > $grown + 2 * $slow;
        sleep 0.05;
    }
    my $ended = defined $status;
    unless ($ended) { # it must still listen to us
        kill 'TERM', $pid;
        for (1 .. 400 * $slow) { if (waitpid($pid, POSIX::WNOHANG()) == $pid) { $status = $?; last } sleep 0.05 }
        unless (defined $status) { kill 'ABRT', $pid; waitpid $pid, 0; $status = $? }
    }
    my ($beats, $output) = (slurp($beat), slurp("$dir/out"));
    note "$number: ", length $beats, ' heartbeats, ', ($beats =~ tr/S//), ' starts',
        $ended ? ', the guest ended the run' : '';
    return '' if $status == 0 && $began;
    my $why = !$began ? 'the guest did not start' : $status & 127 ? 'killed by signal ' . ($status & 127) : 'exit status ' . ($status >> 8);
    return "$why\n@command\n" . substr $output, -3000;
}

my ($until, $runs) = (time + $seconds, 0);
while ($runs == 0 || (time < $until && !$only)) {
    my $number = $seed + $runs++;
    my $wrong = one($number);
    is($wrong, '', "seed $number")
        or diag "replay: perl tests/fuzz/ports.pl -seed $number -seconds 20";
}
done_testing;
