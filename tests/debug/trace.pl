#!/usr/bin/perl
# Logs, instruction traces, profiles and coverage of a guest that is a loop.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Guest;
use Test::More;
use Time::HiRes qw(sleep);
use Tiny;

my $reader = ($ENV{LYREBIRD} || './lyrebird') . '-trace';
my $probe = Guest->start(args => ['-version']);
my $dir = $probe->{dir};
my $loop = 0x10104b; # where paging_code ends up
my $kernel = Tiny::kernel("$dir/kernel", Tiny::paging_code());
my @machine = ('-m', '32', '-nic', 'none', '-kernel', $kernel);
sub slurp { my ($path) = @_; open my $f, '<:raw', $path or return ''; local $/; return scalar <$f> }

# Runs the guest until it is in its loop and a moment longer; its standard error.
sub run {
    my (@args) = @_;
    my $g = Guest->start(args => [@machine, @args], monitor => 1);
    for (1 .. 300 * $Guest::slow) { last if $g->monitor('p/x $pc') =~ /0x1010(?:4[bc]|18)/; sleep 0.05 }
    sleep 0.2;
    $g->monitor('quit');
    is($g->wait_exit(20), 0, "@args") or diag $g->{errors};
    return $g->{errors};
}
sub refused { # one line that says so
    my ($pattern, @args) = @_;
    my $g = Guest->start(args => [@machine, @args]);
    is($g->wait_exit(20), 1, "@args: refused");
    like($g->{errors}, qr/\Alyrebird: [^\n]*$pattern[^\n]*\n\z/, '… and says why')
        or diag $g->{errors};
}

# Logs are long: said in short.
sub has { my ($text, $pattern, $name) = @_; ok($text =~ $pattern, $name) or diag substr $text, 0, 1000 }
sub has_not { my ($text, $pattern, $name) = @_; ok($text !~ $pattern, $name) or diag substr $&, 0, 200 }

open my $map, '>', "$dir/System.map";
printf $map "%016x T start\n%016x T counting_loop\n%016x T behind\n", 0x10100c, $loop,
    $loop + 0x100;
close $map;

# --- logs ---
run('-d', 'exec,cpu,fpu,nochain', '-dfilter', '0x101000+0x1000', '-D', "$dir/exec.%d");
my ($log) = glob "$dir/exec.*";
like($log, qr/exec\.\d+\z/, '-D with %d');
my $text = slurp($log);
has($text, qr/\ATrace 0: \[0{16}\/000000000010100c\/[0-9a-f]{4}\]\nregisters \(CPU 0\)\nEAX=2badb002 /, 'exec and cpu: block and registers');
has($text, qr/^Trace 0: \[0{16}\/000000000010104b\/.*^Trace 0: \[0{16}\/000000000010104b\//ms,
    'the loop, each time');
has($text, qr/^XMM00=/m, 'fpu');
has_not($text, qr/^Trace 0: \[0{16}\/(?!0000000000101)/m, '-dfilter: nothing else');
run('-accel', 'interp', '-d', 'in_asm', '-dfilter', '0x101000..0x101fff', '-D', "$dir/asm",
    '-trace-insns', "file=$dir/u,range=0x101000..0x101fff,registers=off");
has(slurp("$dir/asm"), qr/10104b +inc +ebx\n/, 'in_asm, interpreted');
run('-d', 'in_asm,int,pcall,mmu,cpu_reset', '-D', "$dir/int", '-profile',
    "file=$dir/p,hz=1000,symbols=$dir/System.map");
$text = slurp("$dir/int");
has($text, qr/10104b +inc +ebx\n/, 'in_asm');
has($text, qr/v=10 e=0000 i=1 cpl=0 IP=/, 'int: the firmware prints');
has($text, qr/far jump in front of/, 'pcall');
has($text, qr/TLB flush, .*CR3=0000000000200000/, 'mmu: flush');
has($text, qr/walk of 00000000001010[0-9a-f]{2} to 0000000000101000/, 'mmu: walk');
has($text, qr/^CPU Reset \(CPU 0\)/m, 'cpu_reset');
has(slurp("$dir/p"), qr/^kernel;counting_loop \d+$/m, 'profile: folded stacks with names');
run('-d', 'trace:mc146818*', '-D', "$dir/chip", '-trace-insns',
    "file=$dir/t,range=0x101000..0x101fff,count=40000000", '-coverage',
    "file=$dir/c,range=0x101000..0x101fff");
$text = slurp("$dir/chip");
has($text, qr/^out8 0070 = /m, 'a chip by pattern: its ports');
has_not($text, qr/^(in|out)\d+ (?!007[0-7])/m, '… and no other\'s');
my $g = Guest->start(args => [@machine], monitor => 1);
for (1 .. 300 * $Guest::slow) { last if $g->monitor('p/x $pc') =~ /0x10104[bc]/; sleep 0.05 }
$g->monitor('log exec');
sleep 0.2;
$g->monitor('log none');
$g->expect(qr/nothing will match this/, 0.2);
like($g->{errors}, qr/^Trace 0: /m, 'exec while it runs');
my $before = length $g->{errors};
$g->expect(qr/nothing will match this/, 0.3);
is(length $g->{errors}, $before, 'and off again');
$g->stop;

# --- every instruction ---
my @lines = split /\n/, `$reader -r -n 20 $dir/t`;
like($lines[0], qr/^    rax=2badb002 .* cpl=0 icount=[0-9a-f]+$/,
    'the registers in front of the first');
like($lines[1],
    qr/^0 000000000010100c  c7 05 00 00 20 00 83 00 00 00 mov +dword ptr \[0x200000\], 0x83$/,
    'the first');
ok((grep { /^    cr3=200000$/ } @lines), 'what an instruction changed');
my @a = split /\n/, `$reader -a -n 4000 $dir/t`;
is(scalar @a, 4000, 'as many as asked for');
is(`$reader -a -n 4000 $dir/u`, join('', map { "$_\n" } @a), 'the same by the other engine');
run('-trace-insns', "file=$dir/v,start=1000,count=500");
my @all = split /\n/, `$reader $dir/v`;
is(scalar @all, 500, 'start and count');
open my $short, '>:raw', "$dir/short"; print $short substr slurp("$dir/v"), 0, 1000; close $short;
like(`$reader $dir/short 2>&1`, qr/ends within a record/, 'the reader: a file that ends too early');
like(`$reader $kernel 2>&1`, qr/not an instruction trace/, 'the reader: another file');
open my $noise, '>:raw', "$dir/noise"; print $noise substr(slurp("$dir/v"), 0, 16), map { chr int rand 256 } 1 .. 5000; close $noise;
my $said = `$reader $dir/noise 2>&1`;
is($? & 127, 0, 'the reader: noise');

# --- names from an ELF file ---
my ($main) = map { /^([0-9a-f]+) T main$/ ? hex $1 : () } split /\n/,
    `nm $Guest::emulator 2>/dev/null`;
SKIP: {
    skip 'the emulator has no symbols, or there is no nm', 2 unless $main;

    run('-profile', sprintf "file=$dir/p,hz=500,stack=on,symbols=%s@%#x", $Guest::emulator,
        $loop - $main & ~0);
    like(slurp("$dir/p"), qr/^kernel;(?:.*;)?main \d+$/m, 'names from an ELF file');
}

# --- coverage ---
my @c = split /\n/, slurp("$dir/c");
is($c[0], '000000000010100c 1', 'coverage: run once');
like($c[-1], qr/^000000000010104c \d{3,}$/, 'the loop');
is(scalar @c, 14, 'each instruction has a line');
# mov ecx, 3; dec ecx; jnz back; hlt: a branch that goes both ways
Tiny::kernel($kernel, "\xb9\x03\x00\x00\x00" . "\x49" . "\x75\xfd" . "\xf4\xeb\xfd");
$g = Guest->start(args => [@machine, '-coverage', "file=$dir/c,range=0x101000+0x1000"],
    monitor => 1);
for (1 .. 300 * $Guest::slow) { last if $g->monitor('p/x $pc') =~ /0x1010(1[4-9])/; sleep 0.05 }
$g->monitor('quit');
$g->wait_exit(20);
like(slurp("$dir/c"), qr/^0000000000101012 3 taken 2 not-taken 1$/m, 'a branch both ways');

# mov byte [fee00380h], 1: the APIC takes 32 bits only.
for my $engine (Guest::engines()) {
    Tiny::kernel($kernel, pack 'H*', 'c6058003e0fe01' . '90' x 5 . 'ebfe');
    run('-accel', $engine, '-d', 'guest_errors,unimp', '-D', "$dir/errors");
    $text = slurp("$dir/errors");
    has($text, qr/^cpu0: 1-byte write to local APIC register 380 ignored$/m,
        "$engine: guest_errors");
}

# Calls out of what is looked at, into a loop that is translated already and on to places seen for
# the first time.
my $caller = pack 'H*', 'bc00001800' . 'bb00301000' . 'e8e52f0000' . 'bf2c010000' . 'e8db0f0000' . '4f' . '75f8' . '81fb90311000' . '7502' . 'ebfe' . 'ebfe';
my $callee = pack 'H*', 'b903000000' . '49' . '75fd' . 'ffd3' . '43' . 'c3';
my $warm = pack 'H*', 'be64000000' . 'e8f6dfffff' . '4e' . '75f8' . 'c3';
my $nop = "\x90";
Tiny::kernel($kernel, $caller . $nop x (0xff4 - length $caller) . $callee . $nop x (0x1000 - length $callee) . "\xc3" x 0x1000 . $warm);
for my $engine (Guest::engines()) {
    $g = Guest->start(args => [@machine, '-accel', $engine, '-coverage',
        "file=$dir/c,range=0x101000..0x101fff"], monitor => 1);
    my $at = '';
    for (1 .. 300 * $Guest::slow) { last if ($at) = $g->monitor('p/x $pc') =~ /(0x10103[02])/; sleep 0.05 }
    is($at, '0x101030', "$engine: as many rounds as there are");
    $g->monitor('quit');
    $g->wait_exit(20);
    like(slurp("$dir/c"), qr/^0000000000101020 300\n0{10}101025 300$/m,
        "$engine: and as coverage has them");
}

# --- what is wrong ---
refused(qr/5: FIRST\.\.LAST/, '-dfilter', '5');
refused(qr/range=x/, '-coverage', "file=$dir/x,range=x");
refused(qr/range= is missing/, '-coverage', "file=$dir/x");
refused(qr/more than 64 MiB/, '-coverage', "file=$dir/x,range=0..0xffffffffffffffff");
refused(qr/file= is missing/, '-trace-insns', 'start=5');
refused(qr/hz=0/, '-profile', "file=$dir/x,hz=0");
refused(qr/no symbols/, '-profile', "file=$dir/x,symbols=$kernel");
refused(qr/$dir\/none/, '-profile', "file=$dir/x,symbols=$dir/none");
refused(qr/$dir\/no\/t/, '-trace-insns', "file=$dir/no/t");
refused(qr/one %d/, '-D', "$dir/%s", '-d', 'int');
done_testing();
