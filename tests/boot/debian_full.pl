#!/usr/bin/perl
# A whole Debian on a disk: GRUB by SeaBIOS from IDE and from virtio, GRUB by OVMF; systemd, network, apt, power-off.
# length: long
use strict;
use warnings;
use Guest;
use Debian;
use Digest::SHA;
use Test::More;

my $source = $ENV{SOURCE} || '.';
my $recipe = "$source/tests/boot/make_debian_image";
my ($ovmf_code, $ovmf_vars) = ('/usr/share/OVMF/OVMF_CODE_4M.fd', '/usr/share/OVMF/OVMF_VARS_4M.fd');
# A busy host is many times slower than an idle one; these only say when to give up.
my ($boot_time, $command_time, $work_time) = (2400, 300, 2400);
my @wanted = @ARGV ? @ARGV : qw(ide virtio ovmf);

plan skip_all => 'long runs only' unless ($ENV{LENGTH} || '') eq 'long';
my $missing = qx($^X '$recipe' --needs);
plan skip_all => "not installed here: $missing" if $missing =~ /\S/;
my $image = image() or plan skip_all => 'Debian\'s image cannot be built here';
my ($root_at) = qx($^X '$recipe' --layout) =~ /^root (\d+)/m;
$root_at *= 512;
my @copies;

# The image as the recipe of today makes it.
sub image {
    my $of = Digest::SHA->new(256)->addfile($recipe)->hexdigest;
    my $file = "$Debian::cache/debian-full-" . substr($of, 0, 12) . '.img';
    return $file if -e $file;
    mkdir $Debian::cache;
    unlink glob "$Debian::cache/debian-full-*.img";
    diag 'building the image, some minutes';
    system($^X, $recipe, $file) == 0 or return undef;
    return $file;
}

sub copy_of {
    my ($file, $name) = @_;
    my $copy = "$Debian::cache/run-$$-$name";
    push @copies, $copy;
    system('cp', '--sparse=always', '--reflink=auto', $file, $copy) == 0 or die "no room for a copy of $file";
    return $copy;
}

END { local $?; unlink @copies }

# From the firmware to a root shell.
sub log_in {
    my ($g, $name) = @_;
    ok($g->expect(qr/GNU GRUB/, 600), "$name: GRUB") or return 0;
    note sprintf '%s: GRUB after %.0f s', $name, $g->seconds;
    ok($g->expect(qr/Linux version [^\n]*/, 900), "$name: kernel") or return 0;
    note sprintf '%s: kernel after %.0f s', $name, $g->seconds;
    ok($g->expect(qr/guest login: /, $boot_time), "$name: login prompt") or return 0;
    note sprintf '%s: login prompt after %.0f s', $name, $g->seconds;
    $g->send("root\n");
    $g->expect(qr/Password: /, $command_time) and $g->send("lyrebird\n");
    # Not bash: it colours its prompt and edits lines.
    ok($g->expect(qr/root\@guest:~# /, $command_time), "$name: logged in on the serial port") or return 0;
    $g->send("exec sh\n");
    $g->expect(qr/\n[^\n]*# \z/, $command_time);
    $g->shell('dmesg -n 1', $command_time);
    return 1;
}

sub complaints {
    my ($g) = @_;
    return $g->shell('dmesg | grep -iE "warning:|bug:|lockup|unstable|call trace|oops|i/o error|exception emask|' .
        'lost interrupt|timed out|tx unit hang" | head', $command_time);
}

sub checks {
    my ($g, $name) = @_;
    my $state = $g->shell('systemctl is-system-running --wait', $boot_time);
    is($state, 'running', "$name: systemctl is-system-running")
        or diag $g->shell('systemctl --failed --no-pager; journalctl -b -p err --no-pager | tail -n 20', $command_time);
    note sprintf '%s: running after %.0f s', $name, $g->seconds;
    like($g->shell('ip -4 addr show eth0', $command_time), qr/inet 10\.0\.2\.15\//, "$name: network address by DHCP");
    is($g->shell('findmnt -n -o FSTYPE,OPTIONS / | grep -c "ext4 *rw"', $command_time), '1', "$name: root is ext4, writable");
    my $output = $g->shell('apt-get -q update && apt-get -q -y install hello', $work_time);
    is($g->{status}, 0, "$name: package installed from the distribution") or diag $output;
    is($g->shell('hello', $command_time), 'Hello, world!', "$name: and it runs");
    note sprintf '%s: package after %.0f s', $name, $g->seconds;
    # What was written is what is read, and what dpkg unpacked on the host is whole.
    $g->shell('head -c 48M /dev/urandom > /root/random && sha256sum /root/random > /root/sum && sync && ' .
        'echo 3 > /proc/sys/vm/drop_caches && sha256sum -c /root/sum', $work_time);
    is($g->{status}, 0, "$name: 48 MiB written and read back");
    $output = $g->shell('dpkg --verify libc6 systemd linux-image-$(uname -r) 2>&1 | grep -v "^missing\|/etc/"', $work_time);
    is($output, '', "$name: dpkg --verify finds nothing changed");
    is(complaints($g), '', "$name: nothing to complain about in dmesg");
    $g->shell('echo written by the guest > /root/marker', $command_time);
    note sprintf '%s: all checks after %.0f s', $name, $g->seconds;
}

sub power_off {
    my ($g, $name, $disk) = @_;
    $g->send("systemctl poweroff\n");
    is($g->wait_exit($boot_time), 0, "$name: power-off, exit status 0") or diag $g->tail;
    note sprintf '%s: power-off after %.0f s', $name, $g->seconds;
    my $part = "$disk?offset=$root_at";
    my $fsck = qx(e2fsck -fn '$part' 2>&1);
    is($?, 0, "$name: e2fsck finds nothing") or diag $fsck;
    unlike($fsck, qr/journal/, "$name: no journal to recover");
    like(qx(debugfs -R 'cat /root/marker' '$part' 2>/dev/null), qr/^written by the guest/, "$name: the guest's file is in the image");
}

my %way = (
    ide => ['-drive', 'file=%s,format=raw,if=ide', '-nic', 'user,model=e1000'],
    virtio => ['-drive', 'file=%s,format=raw,if=virtio', '-nic', 'user,model=virtio-net-pci'],
);
$ENV{PATH} .= ':/usr/sbin:/sbin';

for my $name (grep { $way{$_} } @wanted) {
    my $disk = copy_of($image, "$name.img");
    my $g = Guest->start(args => ['-m', '1024', map { s/%s/$disk/r } @{ $way{$name} }]);
    if (log_in($g, $name)) {
        checks($g, $name);
        power_off($g, $name, $disk);
    } else {
        diag $g->tail;
    }
    $g->stop;
    unlink $disk;
}

SKIP: {
    skip 'not asked for', 4 unless grep { $_ eq 'ovmf' } @wanted;
    skip 'OVMF is not installed here', 4 unless -e $ovmf_code && -e $ovmf_vars;
    my $vars = copy_of($ovmf_vars, 'vars.fd');
    my $disk = copy_of($image, 'ovmf.img');
    my $g = Guest->start(args => ['-m', '1024', '-drive', "if=pflash,format=raw,readonly=on,file=$ovmf_code",
        '-drive', "if=pflash,format=raw,file=$vars", '-drive', "file=$disk,format=raw,if=virtio", '-nic', 'none']);
    if (log_in($g, 'ovmf')) {
        is($g->shell('test -d /sys/firmware/efi && echo efi', $command_time), 'efi', 'ovmf: the kernel was started by EFI');
        $g->shell('echo written by the guest > /root/marker', $command_time);
        power_off($g, 'ovmf', $disk);
    } else {
        diag $g->tail;
    }
    $g->stop;
}
done_testing;
