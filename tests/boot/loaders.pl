#!/usr/bin/perl
# Boot loaders and programs that run without a system: GRUB from CD and floppy, iPXE from a card's
# ROM, as a kernel and from CD, memtest86+ as a kernel and from CD for a whole pass.
# length: long
use strict;
use warnings;
use Guest;
use Debian;
use File::Temp qw(tempdir);
use Test::More;

my $dir = tempdir(CLEANUP => 1);

# A file of a package of the distribution; undef when it cannot be had.
sub file_of {
    my ($package, $path) = @_;
    my $folder = Debian::lib("unpacked amd64 \"\" $package");
    return $folder && -r "$folder/$path" ? "$folder/$path" : undef;
}

# --- GRUB ---
sub grub_prompt {
    my ($g, $name, $device) = @_;
    $g->type("ls\n");
    ok($g->screen(qr/\($device\)/, 60), "$name: ls finds ($device)") or diag $g->{screen};
    $g->type("serial\n");
    $g->type("terminal_output serial\n");
    $g->type("echo through the first port\n");
    ok($g->expect(qr/through the first port/, 60), "$name: writes to the serial port")
        or diag $g->tail;
    $g->type("halt\n");
    is($g->wait_exit(60), 0, "$name: halt powers off");
    $g->stop;
}
SKIP: {
    my $tools = !system 'command -v grub-mkrescue xorriso >/dev/null && test -d /usr/lib/grub/i386-pc';
    mkdir "$dir/cd";
    my $made = $tools && !system "grub-mkrescue -o $dir/grub.iso $dir/cd >/dev/null 2>&1";
    my $iso = $made ? "$dir/grub.iso" : file_of('grub-rescue-pc',
        'usr/lib/grub-rescue/grub-rescue-cdrom.iso');
    skip 'no GRUB CD can be made here', 4 unless $iso;
    my $g = Guest->start(args => ['-m', '64', '-nic', 'none', '-boot', 'd', '-cdrom', $iso],
        monitor => 1);
    if (!$made) { $g->keys('c') if $g->screen(qr/GNU GRUB/, 120) }
    ok($g->screen(qr/^grub>/m, 180), 'GRUB, CD: prompt') or diag $g->{screen};
    grub_prompt($g, 'GRUB, CD', 'cd');
}
SKIP: {
    my $image = file_of('grub-rescue-pc', 'usr/lib/grub-rescue/grub-rescue-floppy.img')
        or skip 'no GRUB floppy', 5;
    # A medium of 1.44 MB, as the drive's geometry goes by its size.
    system "cp '$image' $dir/floppy.img && truncate -s 1474560 $dir/floppy.img";
    my $g = Guest->start(args => ['-m', '32', '-nic', 'none', '-boot', 'a', '-fda',
        "$dir/floppy.img"], monitor => 1);
    ok($g->screen(qr/highlighted entry will be executed/, 240), 'GRUB, floppy: menu')
        or diag $g->{screen};
    $g->keys('c');
    ok($g->screen(qr/^grub>/m, 60), 'GRUB, floppy: prompt') or diag $g->{screen};
    grub_prompt($g, 'GRUB, floppy', 'fd0');
}

# --- iPXE ---
my $address = qr{net0: 10\.0\.2\.15/255\.255\.255\.0 gw 10\.0\.2\.2};
for my $model ('e1000', 'virtio-net-pci') {
    my $g = Guest->start(args => ['-m', '32', '-boot', 'n', '-nic', "user,model=$model"],
        monitor => 1);
    ok($g->screen($address, 180), "iPXE, $model\'s ROM: has an address and says so")
        or diag $g->{screen};
    $g->stop;
}
SKIP: {
    my $kernel = file_of('ipxe', 'boot/ipxe.lkrn') or skip 'no iPXE', 3;
    my $iso = file_of('ipxe', 'usr/lib/ipxe/ipxe.iso');
    my $g = Guest->start(args => ['-m', '32', '-kernel', $kernel, '-device',
        'e1000,netdev=n,romfile=', '-netdev', 'user,id=n'], monitor => 1);
    ok($g->screen($address, 180), 'iPXE as a kernel: has an address and says so')
        or diag $g->{screen};
    $g->stop;
    $g = Guest->start(args => ['-m', '32', '-no-reboot', '-boot', 'd', '-cdrom', $iso, '-device',
        'virtio-net-pci,netdev=n,romfile=',
        '-netdev', 'user,id=n'], monitor => 1);
    ok($g->screen(qr/Press Ctrl-B/, 180), 'iPXE, CD: starts') or diag $g->{screen};
    $g->keys('ctrl-b');
    ok($g->screen(qr/^iPXE>/m, 60), 'iPXE, CD: Ctrl-B gives its command line') or diag $g->{screen};
    $g->type("dhcp\n");
    ok($g->screen(qr/Configuring.*ok/, 60), 'iPXE, CD: dhcp') or diag $g->{screen};
    $g->type("route\n");
    ok($g->screen($address, 60), 'iPXE, CD: route shows the address') or diag $g->{screen};
    $g->type("reboot\n");
    is($g->wait_exit(60), 0, 'iPXE, CD: reboot, with -no-reboot') or diag $g->monitor('screentext');
    $g->stop;
}

# --- memtest86+ ---
for (['-kernel, 64 bits', '16', '-kernel', 'boot/memtest86+x64.bin'],
    ['CD, 32 bits', '32', '-cdrom', 'usr/lib/memtest86+/memtest86+ia32.iso']) {
    my ($name, $size, $option, $path) = @$_;
    SKIP: {
        my $file = file_of('memtest86+', $path) or skip 'no memtest86+', 2;
        my $g = Guest->start(args => ['-m', $size, '-nic', 'none', $option, $file], monitor => 1);
        ok($g->screen(qr/Memtest86\+ v.*Testing/s, 240), "memtest86+, $name: runs")
            or diag $g->{screen};
        ok($g->screen(qr/Pass:\s+[1-9]|Errors: [1-9]/, 1500), "memtest86+, $name: a whole pass")
            or diag $g->{screen};
        like($g->{screen}, qr/Errors: 0/, "memtest86+, $name: no error") or diag $g->{screen};
        diag sprintf 'memtest86+, %s: %d s', $name, $g->seconds;
        $g->stop;
    }
}
done_testing;
