#!/usr/bin/perl
# A machine with no system: the firmware's words on the screen and its picture, the ways to start,
# stop, reset and leave a machine and their exit statuses, every kind of serial endpoint, and UEFI
# firmware in flash.
use strict;
use warnings;
use Guest;
use File::Copy qw(copy);
use File::Temp qw(tempdir);
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Test::More;
use Time::HiRes qw(sleep time);

my $dir = tempdir(CLEANUP => 1);
my @small = ('-m', '16', '-nic', 'none');

# A floppy whose boot sector says BOOTED on the first serial port and on the screen and then does as
# told: keys and serial bytes are repeated on both; F is a triple fault, R a reset by the keyboard
# controller, C one by port CF9h, X writes 10h to port 501h; the power button prints P and powers
# off (S5 by the PIIX4's PM block).
my $sector = pack 'H*', join '', qw(
    31c08ed88ed0bc007cfcfbbe897cac84c07405e85f00ebf6b401cd167407b400
    cd16e85000ba0006edf6c4017527bafd03eca80174e2baf803ece838003c4674
    223c5274243c4374253c5875cbba0105b010eeebc3b050e81b00ba0406b80020
    efebb50f011e837cccb0fee664f4baf90cb006eef450baf803eeb40ebb0700cd
    1058c30000000000000d0a424f4f5445440d0a00);
my $floppy = "$dir/floppy.img";
open my $f, '>:raw', $floppy or die;
print $f $sector, "\0" x (510 - length $sector), "\x55\xaa", "\0" x (1474560 - 512);
close $f;
my @boot = (@small, '-boot', 'a', '-drive', "file=$floppy,if=floppy,format=raw,readonly=on");

sub booted { my ($g) = @_; return $g->expect(qr/BOOTED/, 60) }

# (width, height) of a PNG.
sub png_size {
    my ($path) = @_;
    open my $p, '<:raw', $path or return ();
    read $p, my $head, 33;
    return $head =~ /\A\x89PNG\r\n\x1a\n....IHDR(....)(....)/s ? (unpack('N', $1),
        unpack('N', $2)) : ();
}

# --- SeaBIOS with nothing to start ---
{
    my $g = Guest->start(args => [@small], monitor => 1, no_serial => 1);
    ok($g->screen(qr/No bootable device/, 90), 'SeaBIOS: "No bootable device" on the screen')
        or diag $g->{screen};
    like($g->{screen}, qr/SeaBIOS \(version/, 'SeaBIOS says its version');
    is($g->monitor("screendump $dir/a.png"), '', 'screendump');
    is_deeply([png_size("$dir/a.png")], [720, 400], 'the picture has 720x400 points');
    like($g->monitor("screendump $dir/none/a.png"), qr/\AError: .*none/,
        'a picture that cannot be written is said');
    $g->monitor('quit');
    is($g->wait_exit(20), 0, 'quit: exit status 0');
}

# --- start, stop, reset, keys, power button ---
{
    my $g = Guest->start(args => [@boot, '-S'], monitor => 1);
    ok(!$g->expect(qr/BOOTED/, 2), '-S: does not start');
    like($g->monitor('info status'), qr/paused/, '-S: paused');
    $g->monitor('cont');
    ok(booted($g), 'cont: starts, from a floppy') or diag $g->tail;
    like($g->monitor('info status'), qr/running/, 'cont: running');
    ok($g->screen(qr/BOOTED/, 10), 'its word is on the screen too');
    $g->type("Hello, 1:2\n");
    ok($g->expect(qr/Hello, 1:2\r/, 20), 'sendkey: keys arrive, in order, with shift')
        or diag $g->tail;
    $g->monitor('stop');
    $g->send('ab');
    ok(!$g->expect(qr/ab/, 1), 'stop: stands still');
    $g->monitor('cont');
    ok($g->expect(qr/ab/, 20), 'cont: goes on, nothing is lost');
    $g->monitor('system_reset');
    ok(booted($g), 'system_reset: starts again');
    for (['R', 'keyboard controller'], ['C', 'port CF9h'], ['F', 'triple fault']) {
        $g->send($_->[0]);
        ok(booted($g), "reset by $_->[1]: starts again") or diag $g->tail;
    }
    $g->monitor('system_powerdown');
    ok($g->expect(qr/P/, 20), 'system_powerdown: the guest sees the button');
    is($g->wait_exit(20), 0, 'power-off: exit status 0');
}
for (['R', 'reset by the keyboard controller'], ['C', 'reset by port CF9h'], ['F', 'triple fault']) {
    my $g = Guest->start(args => [@boot, '-no-reboot']);
    ok(booted($g), 'starts');
    $g->send($_->[0]);
    is($g->wait_exit(20), 0, "-no-reboot, $_->[1]: exit status 0");
    $g->stop;
}
{
    my $g = Guest->start(args => [@boot, '-device', 'isa-debug-exit,iobase=0x501,iosize=2']);
    ok(booted($g), 'starts');
    $g->send('X');
    is($g->wait_exit(20), 0x10 << 1 | 1, 'isa-debug-exit: exit status (value << 1) | 1');
    $g->stop;
}
{
    my $g = Guest->start(args => [@boot, '-no-shutdown'], monitor => 1);
    ok(booted($g), 'starts');
    $g->monitor('system_powerdown');
    ok($g->expect(qr/P/, 20), '-no-shutdown: button seen');
    my $paused;
    for (1 .. 20 * $Guest::slow) { last if $paused = $g->monitor('info status') =~ /paused/; sleep 0.2 }
    ok($paused, '-no-shutdown: stands still at power-off');
    kill 'TERM', $g->{pid};
    is($g->wait_exit(20), 0, 'SIGTERM: exit status 0');
}

# --- serial endpoints ---
sub until_text {
    my ($handle, $pattern, $timeout) = @_;
    my ($text, $end, $select) = ('', time + $timeout * $Guest::slow, IO::Select->new($handle));
    while (time < $end && $text !~ $pattern) {
        next unless $select->can_read(0.5);
        sysread $handle, $text, 4096, length $text or last;
    }
    return $text =~ $pattern;
}
sub echoes {
    my ($handle, $name) = @_;
    ok(until_text($handle, qr/BOOTED/, 60), "$name: what the guest says");
    syswrite $handle, 'xyz';
    ok(until_text($handle, qr/xyz/, 20), "$name: both ways");
}
sub free_port { return IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1')->sockport }
sub connected { my ($make) = @_; for (1 .. 100 * $Guest::slow) { my $s = $make->(); return $s if $s; sleep 0.1 } return undef }
{
    my $g = Guest->start(args => [@boot, '-serial', "file:$dir/serial"], no_serial => 1,
        monitor => 1);
    ok($g->screen(qr/BOOTED/, 60), '-serial file: starts');
    $g->monitor('quit');
    $g->wait_exit(20);
    open my $s, '<', "$dir/serial" or die;
    like(join('', <$s>), qr/BOOTED/, '-serial file: written');
}
{
    my $g = Guest->start(args => [@boot, '-serial', 'pty', '-S'], no_serial => 1, monitor => 1);
    for (1 .. 50) { last if "$g->{text}$g->{errors}" =~ m{/dev/pts/}; $g->_read_some(0.2) }
    my ($path) = "$g->{text}$g->{errors}" =~ m{(/dev/pts/\d+)};
    ok($path, '-serial pty: its name is said') or diag $g->tail;
    SKIP: {
        skip 'no terminal', 2 unless $path && open my $pty, '+<', $path;
        system "stty raw -echo < $path";
        $g->monitor('cont');
        echoes($pty, '-serial pty');
    }
    $g->stop;
}
{
    my $g = Guest->start(args => [@boot, '-serial', "unix:$dir/socket,server"], no_serial => 1);
    my $s = connected(sub { IO::Socket::UNIX->new(Peer => "$dir/socket") });
    echoes($s, '-serial unix:…,server (waits for us)') if ok($s, '-serial unix: connects');
    $g->stop;
}
{
    my $port = free_port();
    my $g = Guest->start(args => [@boot, '-serial', "tcp:127.0.0.1:$port,server,nowait", '-S'],
        no_serial => 1, monitor => 1);
    my $s = connected(sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) });
    $g->monitor('cont');
    echoes($s, '-serial tcp:…,server,nowait') if ok($s, '-serial tcp: connects');
    $g->stop;
}
{
    my $listen = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die;
    my $g = Guest->start(args => [@boot, '-serial', 'tcp:127.0.0.1:' . $listen->sockport],
        no_serial => 1);
    $listen->timeout(20 * $Guest::slow);
    my $s = $listen->accept;
    echoes($s, '-serial tcp: as a client') if ok($s, '-serial tcp: calls us');
    $g->stop;
}

# --- a forwarded port where nobody listens in the guest ---
{
    my $port = free_port();
    my $g = Guest->start(args => ['-m', '16', '-boot', 'a', '-fda', $floppy, '-snapshot', '-nic',
        "user,hostfwd=tcp:127.0.0.1:$port-:22"]);
    ok(booted($g), 'hostfwd: starts') or diag $g->tail;
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port);
    ok($s, 'hostfwd: the port is open here');
    syswrite $s, "hello\n" if $s;
    sleep 0.5;
    close $s if $s;
    $g->send('abc');
    ok($g->expect(qr/abc/, 20), 'hostfwd to nobody: the machine runs on');
    $g->stop;
}

# --- UEFI in two flash chips ---
my ($code) = grep { -r } map { "/usr/share/$_" } qw(OVMF/OVMF_CODE_4M.fd OVMF/OVMF_CODE.fd edk2/ovmf/OVMF_CODE.fd edk2/x64/OVMF_CODE.4m.fd);
(my $vars = $code || '') =~ s/CODE/VARS/;
SKIP: {
    skip 'no OVMF here', 3 unless $code && -r $vars;
    copy($vars, "$dir/vars.fd") or die;
    chmod 0600, "$dir/vars.fd";
    my $g = Guest->start(args => ['-m', '128', '-nic', 'none', '-drive',
        "if=pflash,format=raw,readonly=on,file=$code",
        '-drive', "if=pflash,format=raw,file=$dir/vars.fd"], monitor => 1);
    ok($g->expect(qr/BdsDxe|UEFI Interactive Shell|Shell>/, 400), 'OVMF: starts a boot option or its shell')
        or diag $g->tail, $g->monitor('info registers');
    $g->stop;
    open my $v, '<:raw', "$dir/vars.fd" or die;
    my $now = do { local $/; <$v> };
    open $v, '<:raw', $vars or die;
    my $then = do { local $/; <$v> };
    is(length $now, length $then, 'OVMF: its variables keep their size');
    ok($now ne $then, 'OVMF: its variables were written to the second chip');
}
done_testing;
