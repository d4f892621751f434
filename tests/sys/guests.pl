#!/usr/bin/perl
# Runs the bare-metal guests of tests/sys/guest and passes their TAP through as one stream.
# usage: guests.pl [TOPIC…]; EMULATOR_ARGS: more options for the emulator; SMP: only this number of
# processors.
#
# A guest is one C file whose first line says how it is run: /* guest: bits=64 smp=1,2,4 */ with
# "quick=1,2" for the numbers of processors when not everything is wanted (0: none), and
# "engines=jit,interp" for both. They are compiled here, with $X86_CC, the native compiler of an x86
# host, or x86_64-linux-gnu-gcc.
use strict;
use warnings;
no warnings 'qw'; # compiler options have commas
use File::Path qw(make_path);
use FindBin;
use lib "$FindBin::Bin/../boot";
use Guest;
use IO::Handle;
use POSIX ();
use X86;

my $source = ($ENV{SOURCE} || "$FindBin::Bin/../..") . '/tests/sys/guest';
my $build = ($ENV{BUILD} || '.') . '/tests/sys';
my $emulator = $ENV{LYREBIRD} || './lyrebird';
my $long = ($ENV{LENGTH} || 'quick') ne 'quick';
my $time_limit = ($long ? 300 : 120) * $Guest::slow;
my ($tests, $failed) = (0, 0);
STDOUT->autoflush(1);

sub report {
    my ($good, $name) = @_;
    $tests++;
    $failed++ unless $good;
    print $good ? 'ok' : 'not ok', " $tests - $name\n";
}

# Compiles TOPIC; its ELF file, or undef.
sub compile {
    my ($cc, $topic, $bits) = @_;
    my $elf = "$build/$topic.elf";
    my @inputs = map { "$source/$_" } 'start.S', 'lib.c', "$topic.c";
    my @mode = $bits == 64 ? qw(-m64 -mno-red-zone) : qw(-m32 -mregparm=3 -march=i686);
    my @command = ($cc, @mode, qw(-std=gnu11 -O2 -g -Wall -Wextra -ffreestanding -fno-pic -fno-pie -no-pie
        -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none -fno-strict-aliasing
        -mgeneral-regs-only -nostdlib -static), "-I$source", @inputs, "-Wl,-T,$source/guest.ld",
        qw(-Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,norelro -Wl,-z,noexecstack), '-o',
        $elf);
    my $said = `@command 2>&1`;
    if ($?) {
        report(0, "$topic: compiles");
        print map { "# $_\n" } split /\n/, $said;
        return undef;
    }
    return $elf;
}

sub run_guest {
    my ($topic, $elf, $smp, $engine) = @_;
    my $name = join ', ', $topic, $smp > 1 ? "$smp processors" : (), $engine || ();
    my @command = ($emulator, '-cpu', 'max,+monitor', '-m', '128', '-smp', $smp, '-kernel', $elf,
        '-display', 'none',
        '-monitor', 'none', '-serial', 'stdio', '-no-reboot',
        '-device', 'isa-debug-exit,iobase=0xf4,iosize=0x4', $engine ? ('-accel', $engine) : (),
        split ' ', $ENV{EMULATOR_ARGS} || '');
    my $pid = open my $out, '-|';
    die "fork: $!" unless defined $pid;
    if (!$pid) {
        open STDIN, '<', '/dev/null';
        open STDERR, '>&', \*STDOUT;
        exec @command or POSIX::_exit(127);
    }
    my ($seen, $plan, $late) = (0, undef, 0);
    local $SIG{ALRM} = sub { $late = 1; kill 'KILL', $pid };
    alarm $time_limit;
    while (my $line = <$out>) {
        $line =~ s/\r?\n\z//;
        if ($line =~ /(not )?ok - (.*)/) {
            $seen++;
            report(!$1, "$name: $2");
        } elsif ($line =~ /^1\.\.(\d+)$/) {
            $plan = $1;
        } else {
            print $line =~ /^#/ ? "$line\n" : "# $line\n";
        }
    }
    alarm 0;
    close $out;
    my $status = $?;
    return if defined $plan && $plan == $seen && $status == 33 << 8;
    report(0, "$name: ran to its end");
    print $late ? "# still running after $time_limit s\n" : '# exit status ' . ($status >> 8) . ' signal ' .
        ($status & 127) . ', planned ' . (defined $plan ? $plan : 'nothing') . ", saw $seen\n";
}

my $cc = X86::compiler();
if (!$cc) {
    print "1..0 # SKIP $X86::missing\n";
    exit 0;
}
make_path($build);
my @topics = @ARGV ? @ARGV : sort map { m{([^/]+)\.c$}
    && $1 ne 'lib' ? $1 : () } glob "$source/*.c";
for my $topic (@topics) {
    open my $file, '<', "$source/$topic.c" or die "$source/$topic.c: $!";
    my $head = <$file>;
    my ($bits) = $head =~ /guest: bits=(32|64)/
        or die "$topic.c: the first line does not say how to run it";
    my ($all) = $head =~ /smp=([\d,]+)/;
    my ($quick) = $head =~ /quick=([\d,]+)/;
    my $elf = compile($cc, $topic, $bits) or next;
    my @counts = split /,/, !$long && defined $quick ? $quick : $all || 1;
    my ($list) = $head =~ /engines=([\w,]+)/; # otherwise the default one
    my @engines = $list && !$ENV{EMULATOR_ARGS} ? grep { $list =~ /\b$_\b/ } Guest::engines() : undef;
    @counts = grep { $_ && (!$ENV{SMP} || $_ == $ENV{SMP}) } @counts;
    for my $engine (@engines) { run_guest($topic, $elf, $_, $engine) for @counts }
}
print "1..$tests\n";
exit($failed ? 1 : 0);
