#!/usr/bin/perl
# length: long
# Other Debian kernels by -kernel: the 32-bit PAE one (with e1000), and the newest one the
# distribution has.
use strict;
use warnings;
use Guest;
use Debian;
use Test::More;

my @guests = (
    { name => 'i386 686-pae', arch => 'i386', suite => '', package => 'linux-image-686-pae',
    modules => ['e1000'], card => 'e1000' },
    { name => 'i386 686-pae on pentium3', arch => 'i386', suite => '',
    package => 'linux-image-686-pae', modules => ['e1000'], card => 'e1000',
        cpu => 'pentium3' },
    { name => 'next release', arch => 'amd64', suite => 'trixie',
    package => 'linux-image-cloud-amd64', modules => [@Debian::network],
        card => 'virtio-net-pci' },
);

for my $guest (@guests) {
    SKIP: {
        my ($kernel, $initrd) = Debian::kernel(@$guest{qw(arch suite package)},
            @{ $guest->{modules} });
        skip "$guest->{name}: the kernel cannot be fetched here", 4 unless $kernel;
        my $g = Guest->start(args => ['-m', '512', '-cpu', $guest->{cpu} || 'max', '-kernel',
            $kernel, '-initrd', $initrd,
            '-nic', "user,model=$guest->{card}", '-append', 'console=ttyS0 quiet']);
        my $up = ok($g->expect(qr/lyrebird:[^\n]*# /, 400), "$guest->{name}: shell")
            or diag $g->tail;
        skip 'no shell', 3 unless $up;
        is($g->shell('dmesg | grep -iE "warning:|bug:|lockup|unstable|stall|call trace|oops" | head'), '', "$guest->{name}: no complaints");
        like($g->shell('ip -4 addr show eth0'), qr/inet 10\.0\.2\.15/, "$guest->{name}: network");
        $g->send("poweroff -f\n");
        is($g->wait_exit(60), 0, "$guest->{name}: power-off");
    }
}
done_testing;
