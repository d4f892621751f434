#!/usr/bin/perl
# The monitor: every command answers, over a socket as over the shared terminal; line editing;
# hostile input.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Guest;
use IO::Select;
use IO::Socket::UNIX;
use Test::More;
use Tiny;

$SIG{PIPE} = "IGNORE";
my $g = Guest->start(args => ['-m', '32', '-nic', 'user,id=net0', '-device', 'virtio-balloon-pci',
    '-name', 'tiny', '-smp', '2',
    '-uuid', '12345678-1234-1234-1234-123456789abc', '-kernel',
    Tiny::kernel("/tmp/lyrebird-tiny.$$", Tiny::paging_code())], monitor => 1);
END { unlink "/tmp/lyrebird-tiny.$$" }
my $dir = $g->{dir};

sub says { my ($command, $pattern, $name) = @_; like($g->monitor($command), $pattern, $name || $command) }

for (1 .. 200) { last if $g->monitor('info mem') =~ /^0/m; select undef, undef, undef, 0.1 }

is((stat $g->{monitor_path})[2] & 0777, 0600, 'a socket is for its owner alone');
says('info status', qr/\AVM status: running\n\z/);
says('info registers',
    qr/CPU#0\nEAX=[0-9a-f]{8} EBX=.*EIP=0010[0-9a-f]{4} .*CS =.*CR0=8.*EFER=.*XMM00=/s);
says('info registers -a', qr/CPU#0.*CPU#1/s);
says('info registers 1', qr/\A\nCPU#1/);
says('info registers 7', qr/CPU#7 not available/);
says('info cpus', qr/\A\* CPU #0: thread_id=\d+\n  CPU #1: thread_id=\d+ \(halted\)/);
says('info mem', qr/\A0000000000000000-0000000000400000 0000000000400000 -rw\n0000000000400000-0000000000401000 0000000000001000 ur-\n\z/);
says('info tlb', qr/\A0000000000000000: 0000000000000000 --P...--W\n0000000000400000: 0000000000100000 .*U-\n\z/);
says('info mtree', qr/i8042/);
says('info pci', qr/Host bridge: PCI device 8086:1237.*Ethernet controller: PCI device 8086:100e/s);
says('info pic', qr/ioapic0: .*pin 23.*pic0: irr=/s);
says('info lapic', qr/local APIC state for CPU 0.*LVT0.*IRR/s);
says('info irq', qr/ 0: \d+/);
says('info block', qr/ide1-cd0: \[not inserted\]\n    Removable device: not locked, tray closed/);
says('info blockstats', qr/ide1-cd0: rd_bytes=0/);
says('info network',
    qr/e1000: type=nic,model=e1000,macaddr=52:54:00:12:34:56\n \\ net0: type=user/);
says('info usernet', qr/net0:/);
says('info jit', qr/./);
says('info balloon', qr/balloon: actual=32/);
says('info chardev', qr/serial0: filename=stdio\n.*compat_monitor0: filename=unix:/s);
says('info mice', qr/\* Mouse #0: /);
says('info qtree', qr/^i8259 +id=i8259\.1 .*^mc146818rtc /ms);
says('info roms', qr/bios/);
says('info usb', qr/not enabled/);
says('info kvm', qr/not compiled/);
says('info memory_size_summary', qr/base memory: 33554432/);
says('info name', qr/\Atiny\n/);
says('info uuid', qr/\A12345678-/);
says('info version', qr/\d\.\d/);
says('info history', qr/'info status'/);
says('info nonsense', qr/unknown command: 'info nonsense'/);
says('nonsense', qr/\Aunknown command: 'nonsense'\n\z/);
says('help', qr/^x \/fmt addr -- /m);
says('help xp', qr/\Axp \/fmt addr -- /);
says('?', qr/^info \[item\]/m);
says('info', qr/^info registers \[-a\] \[vcpu\] -- /m);

says('print 1+2*(3-1)', qr/\A0x5\n\z/);
says('p/d 10 - 3*4', qr/\A-2\n/);
says("p/c 'A'", qr/\A'A'\n/);
says('p/x ~0 & 0xff | 0x100', qr/\A0x1ff\n/);
says('p/d 20/3*2-7%4^1', qr/\A8\n/);
says('p/x -(~1)', qr/\A0x2\n/);
says('p 2 -', qr/end of expression/);
says('p 1/0', qr/division by zero/);
says('p ' . '(' x 500, qr/too deep/);
says('p ' . '-' x 500 . '1', qr/print: /);
says('p $nothing', qr/unknown register/);
says('p', qr/val is missing/);
says('p/x $cr0 & 0x80000001', qr/\A0x80000001/);
says('stop', qr/\A\z/);
says('info status', qr/\AVM status: paused\n/);
my $ebx = $g->monitor('p/x $ebx');
is($g->monitor('p/x $ebx'), $ebx, 'stopped: nothing moves');
says('x/2xw 0x101000', qr/\A0000000000101000: 0x1badb002 0x00000000\n\z/);
says('x/1xw 0x400000', qr/\A0000000000400000: 0x/, 'x: another linear address');
says('x/xw 0x500000', qr/Cannot access memory/, 'x: not mapped');
says('xp/3xb 0x101000', qr/\A0000000000101000: 0x02 0xb0 0xad\n/);
says('x/2dh 0x101000', qr/ -20478  +7085\n/);
says('x/2c 0x101001', qr/'\\xb0' '\\xad'/);
says('x/3i 0x10100c', qr/^0x0010100c:  c7 05 .*mov .*\n.*mov .*\n.*mov /);
says('x/2i $pc', qr/inc +ebx|jmp /);
says('xp/xw 0xfee00030', qr/0x010\d0014\n/, 'xp: the local APIC');
says('xp/xw 0xfed00000', qr/0x8086a201\n/, 'xp: a chip');
says('xp/2xw 0xf0000000', qr/0xffffffff 0xffffffff\n/, 'xp: nobody there');
says('x/99999999x 0', qr/at most/);
says('x/zz 0', qr/invalid char/);
says('gva2gpa 0x400123', qr/\Agpa: 0x100123\n/);
says('gva2gpa 0x500000', qr/\AUnmapped\n/);
says("memsave 0x101000 8 $dir/v", qr/\A\z/);
says("pmemsave 0x101000 8 \"$dir/p\"", qr/\A\z/);
says("memsave 0x3ff000 0x10000 $dir/w", qr/Invalid addr/);
says("memsave 0 4 $dir/no/where", qr/Could not open/);
is(-s "$dir/v", 8, 'memsave: size');
is(do { local (@ARGV, $/) = "$dir/p"; <> }, pack('V2', 0x1badb002, 0), 'pmemsave: bytes');
says('o /b 0x70 0x0f', qr/\A\z/);
says('i /b 0x71', qr/\Aportb\[0x0071\] = 0x[0-9a-f]{2}\n/);
says('i /b 0x70 0', qr/\Aportb\[0x0071\]/);
says('cont', qr/\A\z/);
select undef, undef, undef, 0.2;
isnt($g->monitor('p/x $ebx'), $ebx, 'cont: it moves');
says('cpu 1', qr/\A\z/);
says('info registers', qr/CPU#1/, 'cpu: the one that is looked at');
says('cpu 2', qr/invalid CPU index/);
says('cpu 0', qr/\A\z/);
says('device mc146818rtc', qr/^cmos=/m);
says('device e1000', qr/^pci\.config=86 80/m);
says('device cpu1', qr/^cr3=/m);
says('device nothing', qr/not found/);
says('sendkey ctrl-alt-f1', qr/\A\z/);
says('sendkey bogus', qr/invalid parameter/);
says('mouse_move 3 -4', qr/\A\z/);
says('mouse_move 1 1 1', qr/\A\z/);
says('mouse_button 1', qr/\A\z/);
says("screendump $dir/a.ppm", qr/\A\z/);
says("screendump $dir/b -f ppm", qr/\A\z/);
is(do { local (@ARGV, $/) = "$dir/b"; substr <>, 0, 3 }, "P6\n", 'screendump: PPM');
says("screendump $dir/c -f gif", qr/not supported/);
says('screentext', qr/./);
says('nmi', qr/\A\z/);
says('eject nothing', qr/Error: Device 'nothing' not found/);
open my $iso, '>', "$dir/cd.iso"; print $iso "\0" x 4096; close $iso;
says("change ide1-cd0 $dir/cd.iso", qr/\A\z/);
says('info block ide1-cd0', qr/cd\.iso \(raw, read-only\)/);
says('eject ide1-cd0', qr/\A\z/);
says('info block', qr/ide1-cd0: \[not inserted\]\n.*tray open/);
says("change ide1-cd0 $dir/none", qr/Error: .*none/);
says('set_link net0 off', qr/\A\z/);
says('set_link net0 maybe', qr/Expected 'on' or 'off'/);
says('set_link nothing on', qr/not found/);
says('hostfwd_add net0 nonsense', qr/Error/);
says('hostfwd_remove tcp:127.0.0.1:1', qr/not found/);
says('balloon 16', qr/\A\z/);
says('balloon x', qr/invalid size/);
says('log guest_errors,int', qr/\A\z/);
says('log none', qr/\A\z/);
says('log bogus', qr/no such log channel/);
says('system_wakeup', qr/not in suspended state/);
says('system_powerdown', qr/\A\z/);
says('eject', qr/device is missing/);
says('stop now', qr/extraneous characters/);

# --- typing ---
my $socket = $g->{monitor};
sub typed { # what the terminal shows when KEYS are pressed, up to the next prompt
    my ($keys, $wanted) = @_;
    $wanted ||= qr/\n\(lyrebird\) \z/;
    syswrite $socket, $keys;
    my ($answer, $end) = ('', time + 20 * $Guest::slow);
    while (time < $end && $answer !~ $wanted) {
        sysread $socket, $answer, 65536, length $answer or last
            if IO::Select->new($socket)->can_read(1);
    }
    return $answer;
}
like(typed("info xx\x7f\x7fname\r\n"), qr/\r\ntiny\r\n/, 'backspace; CR LF is one line end');
like(typed("name\x01info \r"), qr/\r\ntiny\r\n/, 'Ctrl-A');
like(typed("infoname\x1b[D\x1b[D\x1b[D\x1b[D \r"), qr/\r\ntiny\r\n/, 'cursor left');
like(typed("xinfo name\x1b[1~\x1b[3~\r"), qr/\r\ntiny\r\n/, 'Home, Delete');
like(typed("info namexyz\x1b[D\x1b[D\x1b[D\x0b\r"), qr/\r\ntiny\r\n/, 'Ctrl-K');
like(typed("garbage\x15info name\r"), qr/\r\ntiny\r\n/, 'Ctrl-U');
like(typed("info uuid\x17name\r"), qr/\r\ntiny\r\n/, 'Ctrl-W');
like(typed("garbage\x03info name\r"), qr/\r\ntiny\r\n/, 'Ctrl-C');
like(typed("\x1b[A\r"), qr/info name\x1b\[K\r\ntiny\r\n/, 'history');
like(typed("p 77\r"), qr/0x4d/);
like(typed("\x10\x10\x0e\r"), qr/\r\n0x4d\r\n/, 'history, up and down');
like(typed("info na\t\r"), qr/info name \r\ntiny\r\n/, 'completion of what info knows');
like(typed("hel\txp\r"), qr/help xp\r\nxp /, 'completion of a command');
like(typed("eject ide\t\t\r"), qr/eject ide1-cd0 /, 'completion of a drive');
like(typed("device mc\t\r"), qr/device mc146818rtc \r/, 'completion of a chip');
like(typed("sendkey ctrl-alt-del\t\r"), qr/sendkey ctrl-alt-delete \r/, 'completion of keys');
like(typed("s\t\x15p 1\r"), qr/screendump.*system_reset.*\r\n\r?\(lyrebird\) s/s,
    'several: they are listed');
like(typed("p '\xc3\xa9'\x7f\x7f\x7f\x7f 5\r"), qr/0x5/, 'what is not ASCII');

# --- hostile ---
like(typed('x' x 20000 . "\x15p 6\r"), qr/0x6/, 'a line that is too long');
syswrite $socket, join '', map { chr int rand 256 } 1 .. 5000;
like(typed("\x03\x03\r\x03\x03p 0x1234567\r", qr/\n0x1234567\r\n\(lyrebird\) \z/), qr/0x1234567/,
    'noise');
close $socket;
delete $g->{monitor};
says('info status', qr/VM status/, 'another client, behind one that left');
my $flood = $g->{monitor};
$flood->blocking(0);
for (1 .. 3000) { last unless syswrite $flood, "info mtree\ninfo pci\n" x 20 }
ok(kill(0, $g->{pid}), 'a flood that nobody reads');
close $flood;
delete $g->{monitor};
like($g->monitor('info status'), qr/VM status/, 'and the next client is served');
$g->monitor('quit');
is($g->wait_exit(20), 0, 'quit');
is($g->{errors}, '', 'nothing was complained about');
ok(!-e $g->{monitor_path}, 'the socket is gone');

# --- the shared terminal ---
my $t = Guest->start(args => ['-nographic', '-nic', 'none', '-m', '16', '-S'], no_serial => 1);
$t->send("\x01c");
ok($t->expect(qr/\(lyrebird\) /, 20), 'Ctrl-A C');
$t->send("info status\r");
ok($t->expect(qr/paused \(prelaunch\)/, 20), 'a command on the shared terminal');
$t->send("info na\x01c\x01cme\r");
ok($t->expect(qr/\(lyrebird\) info name/, 20), 'the line is still there when one comes back');
$t->send("quit\r");
is($t->wait_exit(20), 0, 'quit');
done_testing();
