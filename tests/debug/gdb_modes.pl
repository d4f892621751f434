#!/usr/bin/perl
# A real gdb follows a boot sector from the reset vector through real, protected and long mode to
# CPL 3, in one session and with both engines: registers of every kind, memory, breakpoints, single
# steps.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Gdb;
use Test::More;

Gdb::debugger();
my ($elf, $image) = Gdb::modes();

my $script = <<'END';
printf "reset %lx base %lx cr0 %x\n", $rip, $cs_base, (int)$cr0
stepi
printf "step %lx base %lx\n", $rip, $cs_base
hbreak *0x7c00
continue
printf "boot %lx sector %x\n", $rip, *(unsigned short*)0x7dfe
break *&real
continue
stepi
stepi
printf "bx %x rcx %x\n", (int)$rbx & 0xffff, (int)$rcx & 0xffff
set $rbx = 0xabcd
stepi
printf "fs %x eflags %x\n", $fs, (int)$eflags & 0x202
tbreak *&protected
continue
printf "protected %lx cs %x cpl %d pe %d\n", $rip, $cs, $cpl, (int)$cr0 & 1
printf "kept %x\n", (int)$rbx
tbreak *&long_mode
continue
printf "long %lx cs %x lma %d\n", $rip, $cs, (int)$efer >> 10 & 1
set $r12 = 0x123456789abcdef0
set $xmm3.v2_int64[1] = 0x1122334455667788
set $ymm5.v4_int64[3] = 77
set $st2 = 2.5
set $cr2 = 0xfeed
set $cr4 = (int)$cr4 | 0x600
set $efer = (int)$efer | 0x800
printf "cr4 %x efer %x\n", (int)$cr4, (int)$efer
tbreak *&user
continue
printf "user %lx cs %x ss %x cpl %d\n", $rip, $cs, $ss, $cpl
printf "r12 %lx xmm3 %lx ymm5 %d cr2 %lx\n", $r12, $xmm3.v2_int64[1], (int)$ymm5.v4_int64[3], (long)$cr2
printf "st2 %.1f\n", $st2
set $fctrl = 0x27f
printf "fctrl %x mxcsr %x ftag %x\n", $fctrl, (int)$mxcsr, $ftag
delete
tbreak *&repeat
continue
stepi
printf "rep %lx rcx %d\n", $rip, (int)$rcx
stepi
stepi
stepi
stepi
printf "done %lx rcx %d\n", $rip, (int)$rcx
stepi
printf "syscall %lx cpl %d\n", $rip, $cpl
stepi
stepi
stepi
stepi
printf "mov ss %lx\n", $rip
stepi
printf "behind %lx rbx %d\n", $rip, (int)$rbx
stepi
printf "fault %lx\n", $rip
stepi
printf "handler %lx\n", $rip
stepi
stepi
printf "round %lx\n", $rip
set var *(long*)0x8800 = 1000
break *&user if *(long*)0x8800 == 1200
continue
printf "counter %ld\n", *(long*)0x8800
info breakpoints
delete
print $_exitcode
kill
END

# Mode changes and a triple fault as events.
my $events = <<'END';
hbreak *0x7c00
continue
delete
monitor stop-on mode
continue
continue
continue
continue
monitor delete all
monitor stop-on triple-fault
set $rip = (long)&fault
set $idt_was = $idt_limit
set *(long *)(0x9000 + 6 * 16) = 0
set *(long *)(0x9000 + 8 * 16) = 0
set *(long *)(0x9000 + 13 * 16) = 0
set *(long *)(0x9000 + 11 * 16) = 0
continue
printf "stopped at %lx\n", $rip
hbreak *0x7c00
continue
printf "again %lx cr0 %x\n", $rip, (int)$cr0 & 1
kill
END

for my $engine (Guest::engines()) {
    my $gdb = Gdb->start(args => ['-accel', $engine, '-S', '-drive', "file=$image,format=raw"]);
    my $said = $gdb->script($script, symbols => $elf);
    my $want = sub { my ($pattern, $name) = @_; ok($said =~ $pattern, "$engine: $name") };
    $want->(qr/^reset fff0 base ffff0000 cr0 60000010$/m, 'the reset vector');
    $want->(qr/^step e05b base f0000$/m, 'a far jump stepped over');
    $want->(qr/^boot 7c00 sector aa55$/m, 'the boot sector, and its memory');
    $want->(qr/^bx 1234 rcx b800$/m, 'steps in real mode');
    $want->(qr/^fs b800 eflags 2?$/m, 'a selector');
    $want->(qr/^protected 7c\w\w cs 8 cpl 0 pe 1$/m, 'protected mode');
    $want->(qr/^kept abcd$/m, 'a register written');
    $want->(qr/^long 7c\w\w cs 18 lma 1$/m, 'long mode');
    $want->(qr/^cr4 620 efer d01$/m, 'CR4 and EFER written');
    $want->(qr/^user 7d\w\w cs 33 ss 2b cpl 3$/m, 'CPL 3');
    $want->(qr/^r12 123456789abcdef0 xmm3 1122334455667788 ymm5 77 cr2 feed$/m,
        'general, vector and control registers written');
    $want->(qr/^st2 2\.5$/m, 'an x87 register written');
    $want->(qr/^fctrl 27f mxcsr 1f80 ftag \w+$/m, 'x87 and SSE control');
    $want->(qr/^rep 7d25 rcx 4\n.*^done 7d27 rcx 0$/ms,
        'a repeated instruction, an iteration a step');
    $want->(qr/^syscall 7d2b cpl 0$/m, 'into SYSCALL');
    $want->(qr/^mov ss 7d35\n.*^behind 7d37 .*^fault 7d3a$/ms,
        'every instruction behind STI and MOV SS is a step');
    $want->(qr/^handler 7d48$/m, 'into a fault');
    $want->(qr/^round 7d3c$/m, 'and back from it');
    $want->(qr/^counter 1200$/m, 'a condition');
    $want->(qr/stop only if .*\(target evals\)\n\tbreakpoint already hit 1 time/,
        'worked out by the stub');
    unlike($said, qr/too long|[Ee]rror|Cannot/, "$engine: no complaint");
    is($gdb->guest->wait_exit(20), 0, "$engine: killed");
    $gdb = Gdb->start(args => ['-accel', $engine, '-S', '-drive', "file=$image,format=raw"]);
    my $more = $gdb->script($events, symbols => $elf);
    like($more, qr/^real mode became protected 16-bit\n.*^protected 16-bit mode became protected 32-bit\n/ms, "$engine: into protected mode");
    like($more, qr/^protected 32-bit mode became compatibility 32-bit\n.*^compatibility 32-bit mode became 64-bit\n/ms, "$engine: into long mode");
    like($more, qr/^triple fault\n.*^again 7c00 cr0 0\n/ms,
        "$engine: a triple fault, and the reset behind it");
    $said .= $more;
    diag($said) unless Test::More->builder->is_passing;
}
done_testing;
