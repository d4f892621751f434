#!/usr/bin/perl
# A real gdb debugs Debian's kernel with its symbols: from start_kernel over a page fault, a system
# call and the timer to a program in CPL 3, on two processors and with both engines; interrupts
# while stepping, masked and not.
# length: long
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin, "$FindBin::Bin/../boot";
use Gdb;
use Debian;
use Test::More;

Gdb::debugger();
my $cc = Gdb::compiler();
my ($kernel, $initrd) = Debian::kernel('amd64', '', 'linux-image-cloud-amd64');
plan skip_all => 'the distribution\'s kernel cannot be fetched here' unless $kernel;
my @guest = ('-smp', 2, '-kernel', $kernel, '-initrd', $initrd, '-append',
    'console=ttyS0 quiet nokaslr');

# The kernel's symbols, as it tells them itself, as an ELF file.
sub symbols {
    my $g = Guest->start(args => ['-m', 512, '-nic', 'none', @guest]);
    $g->expect(qr/lyrebird:[^\n]*# /, 600) or die $g->tail;
    my $text = $g->shell('grep -E "^f+8.* [TtDdB] [a-z0-9_A-Z]+$" /proc/kallsyms', 300);
    $g->stop;
    my ($script, %seen) = ('');
    for (split /\n/, $text) {
        my ($at, $name) = /^(\w+) . (\w+)$/ or next;
        $script .= sprintf "%s = 0x%s - 0xffffffff81000000 + start;\n", $name, $at unless $seen{$name}++;
    }
    open my $out, '>', "$Gdb::dir/symbols.ld" or die;
    print $out "SECTIONS { .text 0xffffffff81000000 : { start = .; *(.text) $script } }\n";
    close $out;
    open $out, '>', "$Gdb::dir/symbols.S" or die;
    print $out ".text\nnop\n";
    close $out;
    Gdb::run_or_die("$cc -m64 -c $Gdb::dir/symbols.S -o $Gdb::dir/symbols.o");
    Gdb::run_or_die("$cc -m64 -nostdlib -static -no-pie -Wl,-T,$Gdb::dir/symbols.ld,--build-id=none $Gdb::dir/symbols.o -o $Gdb::dir/vmlinux");
    cmp_ok(scalar(keys %seen), '>', 10000, 'the kernel\'s symbols');
    return "$Gdb::dir/vmlinux";
}

my $script = <<'END';
hbreak start_kernel
continue
printf "start_kernel %d cpl %d\n", $rip == (long)&start_kernel, $cpl
bt 3
stepi
stepi
delete
break kernel_init
continue
info threads
delete
break asm_exc_page_fault if $cr2 < 0x800000000000
continue
printf "page fault cr2 %d\n", $cr2 != 0
stepi
stepi
delete
break entry_SYSCALL_64 if $rax == 257
continue
printf "openat %d\n", (int)$rax
set $user = $rcx
delete
hbreak *$user
continue
printf "user %d cpl %d\n", $rip == $user, $cpl
set $k = 0
while $k < 100
stepi
set $k = $k + 1
end
delete
watch *(long *)&jiffies
continue
continue
printf "jiffies watched\n"
delete
break do_idle thread 2
continue
printf "idle\n"
delete
maintenance packet Qqemu.sstep=0x1
set $k = 0
set $timer = 0
while $k < 2000 && !$timer
stepi
set $k = $k + 1
set $timer = $rip == (long)&asm_sysvec_apic_timer_interrupt || $rip == (long)&asm_sysvec_reschedule_ipi || $rip == (long)&asm_sysvec_call_function_single
end
printf "stepped into an interrupt %d\n", $timer
maintenance packet Qqemu.sstep=0x7
detach
END

my $vmlinux = symbols();

# What is looked at is interpreted, what it calls is not: the system call's way through the kernel.
my ($entry) = map { /^(\w+) \w do_syscall_64$/ ? hex $1 : () } `nm $vmlinux`;
my $covered = Guest->start(args => ['-m', 512, '-nic', 'none', @guest, '-coverage',
    sprintf('file=%s/coverage,range=%#x+0x60', $Gdb::dir, $entry)], monitor => 1);
ok($covered->expect(qr/lyrebird:[^\n]*# |Kernel panic/, 600) && $covered->{text} !~ /Kernel panic/,
    'coverage of the system call: the guest comes up') or diag $covered->tail;
$covered->monitor('quit');
$covered->wait_exit(20);
open my $coverage, '<', "$Gdb::dir/coverage" or die;
like(<$coverage>, qr/^@{[sprintf '%016x', $entry]} \d{3,}$/, '... every one of them');

for my $engine (Guest::engines()) {
    my $gdb = Gdb->start(args => ['-accel', $engine, '-S', @guest, '-m', 512]);
    my $said = $gdb->script($script, symbols => $vmlinux, limit => 1200);
    my $want = sub { my ($pattern, $name) = @_; ok($said =~ $pattern, "$engine: $name") };
    $want->(qr/^start_kernel 1 cpl 0$/m, 'start_kernel');
    $want->(qr/^  2 .*CPU#1/m, 'two processors');
    $want->(qr/^page fault cr2 1$/m, 'a page fault of the user\'s half');
    $want->(qr/^openat 257$/m, 'a system call');
    $want->(qr/^user 1 cpl 3$/m, 'a program');
    $want->(qr/Hardware watchpoint \d+: \*\(long \*\)&jiffies\n\nOld value = (\d+)\nNew value = (\d+)\n.*jiffies watched/s, 'jiffies');
    $want->(qr/^idle$/m, 'the other processor');
    $want->(qr/^stepped into an interrupt 1$/m, 'interrupts taken when not masked');
    $want->(qr/detached/, 'detached');
    unlike($said, qr/too long|Error|Cannot/, "$engine: no complaint");
    my $guest = $gdb->guest;
    ok($guest->expect(qr/lyrebird:[^\n]*# /, 600), "$engine: and the guest comes up")
        or diag $guest->tail;
    is($guest->shell('echo fine', 120), 'fine', "$engine: shell");
    diag($said) unless Test::More->builder->is_passing;
}
done_testing;
