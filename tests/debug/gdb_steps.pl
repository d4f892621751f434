#!/usr/bin/perl
# A thousand single steps by the stub and the instruction trace of the same run say the same:
# addresses, registers, flags, through calls, a fault and its handler, STI, port, MSR and APIC
# writes. Then the timer's interrupt, kept off by steps that mask and taken by those that don't.
# Each engine.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Gdb;
use Test::More;

my $reader = ($ENV{LYREBIRD} || './lyrebird') . '-trace';
my $elf = Gdb::kernel('target');
my %address = map { /^(\w+) \w (\w+)$/ ? ($2 => hex $1) : () } `nm $elf 2>/dev/null`;
plan skip_all => 'no nm' unless $address{work};
my $steps = 1000;
my @order = qw(rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15); # of the g packet

# What the stub shows: "rip rax=… … rflags=…".
sub state {
    my ($gdb) = @_;
    my @value = unpack 'Q<16 Q< L<', pack 'H*', substr $gdb->ask('g'), 0, 2 * (17 * 8 + 4);
    return join ' ', sprintf('%x', $value[16]), (map { sprintf '%s=%x', $order[$_],
        $value[$_] } 0 .. 15), sprintf 'rflags=%x', $value[17];
}

# The same of the trace's records from where work is run first.
sub traced {
    my ($file) = @_;
    my (%now, @said);
    open my $in, '-|', $reader, '-r', $file or die;
    while (<$in>) {
        if (/^    /) { $now{$1} = $2 while /(\w+)=(\w+)/g; next }
        my ($ip) = /^\d+ 0*(\w+) / or next;
        next unless @said || hex $ip == $address{work};
        push @said, join ' ', $ip, map { "$_=$now{$_}" } @order, 'rflags';
        last if @said == $steps;
    }
    close $in;
    return @said;
}

my @path;
for my $engine (Guest::engines()) {
    my $file = "$Gdb::dir/steps";
    my $gdb = Gdb->start(args => ['-accel', $engine, '-S', '-kernel', $elf, '-trace-insns',
        "file=$file,range=0x100000..0x7fffff"]);
    $gdb->connect;
    $gdb->ask('QStartNoAckMode');
    $gdb->ask(sprintf 'Z1,%x,1', $address{work});
    like($gdb->ask('vCont;c', 60), qr/\AT05/, "$engine: at work");
    $gdb->ask(sprintf 'z1,%x,1', $address{work});
    my (@seen, $odd);
    for (1 .. $steps) {
        push @seen, state($gdb);
        my $stop = $gdb->ask('vCont;s:1');
        $odd //= $stop unless $stop =~ /\AT05thread:1;/;
    }
    is($odd, undef, "$engine: each a stop");
    # In the loop behind STI: the timer is made to tick now.
    my $flags = sub { state($gdb) =~ /rflags=(\w+)/ ? hex $1 : 0 };
    my $steps_to = sub { # how many until PLACE is reached
        my ($place, $most) = @_;
        for (1 .. $most) { $gdb->ask('vCont;s:1'); return $_ if $gdb->reg(16) == $place }
        return 0;
    };
    ok($flags->() & 0x200, "$engine: interrupts are on");
    is($gdb->ask('Mfee00380,4:01000000'), 'OK', "$engine: the timer started by a client");
    is($steps_to->($address{tick}, 100), 0, "$engine: masked: no interrupt");
    is($gdb->ask('Qqemu.sstep=1'), 'OK', "$engine: not masked, time runs");
    cmp_ok($steps_to->($address{tick}, 100), '>', 1, "$engine: into the interrupt's handler");
    is($gdb->ask('Qqemu.sstep=7'), 'OK', "$engine: masked again");
    $gdb->put('k');
    is($gdb->guest->wait_exit(20), 0, "$engine: killed");
    my @traced = traced($file);
    my ($wrong) = grep { ($seen[$_] // '') ne ($traced[$_] // '') } 0 .. $steps - 1;
    is($wrong, undef, "$engine: $steps steps are as the trace has them")
        or diag "step $wrong\n$seen[$wrong]\n$traced[$wrong]";
    my %way = map { /^(\w+)/ ? ($1 => 1) : () } @seen;
    cmp_ok(scalar(keys %way), '>', 100, "$engine: by way of many instructions");
    ok($way{ sprintf '%x', $address{skip_ud2} }, "$engine: a fault's handler among them");
    push @path, join "\n", map { /^(\w+)/ } @seen;
}
is($path[0], $path[-1], 'all engines went the same way');

# Real mode, CS 07C0: a loop that has run for long: inc bx; mov [100h], bx; call to a ret; jmp back.
open my $disk, '>:raw', "$Gdb::dir/sector" or die;
my $code = pack 'H*', 'ea0500c007' . '31db8cc88ed8' . '43' . '891e0001' . 'e80200' . 'ebf6' . 'c3';
print $disk $code, "\0" x (510 - length $code), "\x55\xaa", "\0" x (1 << 20);
close $disk;
for my $engine (Guest::engines()) {
    my $gdb = Gdb->start(args => ['-accel', $engine, '-drive', "file=$Gdb::dir/sector,format=raw"]);
    my $there = sub { sprintf '%x', $gdb->reg(16) };
    for (1 .. 200 * $Guest::slow) { # until it has gone round often
        $gdb->connect;
        my ($word) = unpack 'S<', pack 'H*', $gdb->ask('m7d00,2') || '0000';
        last if $word > 20000 && $gdb->reg(16) < 0x20;
        $gdb->hang_up;
        select undef, undef, undef, 0.05;
    }
    is($gdb->ask('Z0,7c15,1'), 'OK', "$engine: a breakpoint at a linear address");
    like($gdb->ask('vCont;c'), qr/\AT05/, "$engine: met");
    is($there->(), '15', "$engine: there");
    $gdb->ask('vCont;s:1');
    is($there->(), '13', "$engine: a step behind it");
    like($gdb->ask('vCont;c'), qr/\AT05/, "$engine: met again");
    is($there->(), '15', "$engine: there again");
    $gdb->ask('z0,7c15,1');
    is($gdb->ask('Z2,7d00,2'), 'OK', "$engine: a watchpoint");
    like($gdb->ask('vCont;c'), qr/watch:0*7d00/, "$engine: met");
    is($there->(), '10', "$engine: behind the store");
    $gdb->put('k');
    is($gdb->guest->wait_exit(20), 0, "$engine: killed");
}
done_testing;
