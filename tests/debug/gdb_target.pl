#!/usr/bin/perl
# A real gdb on two processors: threads, watchpoints, conditions, breakpoints bound to an address
# space, events that gdb has no words for, interrupts while stepping; leaving, coming back, killing.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Gdb;
use Test::More;

Gdb::debugger();
my $elf = Gdb::kernel('target');

my $first = <<'END';
tbreak guest_main
continue
info threads
break work if n == 5000 && who == 0
continue
printf "work n %ld who %ld\n", n, who
delete
hbreak work thread 2
continue
printf "hbreak who %ld\n", who
bt
delete
watch mailbox
continue
printf "mailbox %ld\n", mailbox
continue
delete
rwatch mailbox
continue
delete
tbreak wait_for
continue
rwatch quiet
continue
printf "behind the comparison\n"
x/i $pc
delete
awatch nothing
watch rounds[1]
continue
delete
tbreak events
continue
monitor stop-on port 0x80
monitor stop-on msr 0xc0000103
monitor stop-on mmio lapic 0x380
monitor stop-on exception 6
monitor stop-on pte 0x8000000000
monitor stops
continue
continue
continue
continue
continue
monitor delete all
monitor break work cr3=current
monitor break 1000 cr3=0x123000
monitor stops
monitor delete all
printf "symbol %lx\n", (long)&work
set $cr3now = (long)$cr3
eval "monitor break 0x%lx cr3=0x123000", (long)&work
eval "monitor break 0x%lx cr3=0x%lx", (long)&events, $cr3now
continue
printf "bound to events %d\n", $rip == (long)&events
monitor delete all
x/2i $pc
set var *(int *)0x400000 = 4711
maintenance packet Qqemu.PhyMemMode:1
printf "physical %d\n", *(int *)0x400000
maintenance packet Qqemu.PhyMemMode:0
maintenance packet qqemu.sstepbits
set var quiet = 99
printf "quiet %ld\n", quiet
find (char *)&quiet - 64, +128, (long)99
compare-sections .text
detach
END

my $second = <<'END';
info threads
break work if who == 1
continue
printf "again who %ld\n", who
delete
kill
END

for my $engine (Guest::engines()) {
    my $gdb = Gdb->start(args => ['-accel', $engine, '-S', '-smp', 2, '-kernel', $elf]);
    my $said = $gdb->script($first, symbols => $elf, limit => 100);
    my $want = sub { my ($pattern, $name) = @_; ok($said =~ $pattern, "$engine: $name") };
    $want->(qr/^\* 1 .*CPU#0 \[running\], 64-bit.*\n  2 .*CPU#1 \[halted\]/m, 'threads');
    $want->(qr/^work n 5000 who 0$/m, 'a condition');
    $want->(qr/^hbreak who 1$/m, 'a breakpoint on one processor');
    $want->(qr/^#1 .* second \(/m, 'a backtrace there');
    $want->(qr/Hardware watchpoint.*: mailbox\n\nOld value = \d+\nNew value = (\d+)\n.*\n.*mailbox \1\n/s, 'a write watched');
    $want->(qr/Hardware read watchpoint.*: mailbox\n\nValue = \d+\n/s, 'a read watched');
    $want->(qr/^behind the comparison\n.*<wait_for\+\d+>:\s+jne/m, 'exactly behind a comparison');
    $want->(qr/Hardware watchpoint .*: rounds\[1\]\n\nOld value = (\d+)\nNew value = (\d+)\n/s,
        'the other processor\'s write');
    $want->(qr/^wrote \w+ to port 80$/m, 'stop-on port');
    $want->(qr/^wrote \w+ to MSR c0000103$/m, 'stop-on msr');
    $want->(qr/^wrote 0 to lapic register 380$/m, 'stop-on mmio');
    $want->(qr/^vector 6, error code 0, from 1\w+$/m, 'stop-on exception');
    $want->(qr/^page-table entry at physical \w+: 400067 became 400267$|400267 became 400067$/m,
        'stop-on pte');
    $want->(qr/^\d+ +break 3e8 length 1 cr3=123000$/m, 'stops lists them');
    $want->(qr/^bound to events 1$/m, 'a breakpoint bound to an address space');
    $want->(qr/^physical 4711$/m, 'physical memory');
    $want->(qr/received: "ENABLE=1,NOIRQ=2,NOTIMER=4"/, 'qemu.sstepbits');
    $want->(qr/^quiet 99$/m, 'memory written');
    $want->(qr/<quiet>\n1 pattern found/, 'searched');
    $want->(qr/Section \.text.*matched/, 'and summed');
    $want->(qr/detached/, 'detached');
    my $again = $gdb->script($second, symbols => $elf, limit => 60);
    like($again, qr/^again who 1$/m, "$engine: reattached");
    is($gdb->guest->wait_exit(20), 0, "$engine: killed");
    diag($said, $again) unless Test::More->builder->is_passing;
}
done_testing;
