# The stub under test: a guest with -gdb, a real gdb run on a script, or a client of our own.
package Gdb;
use strict;
use warnings;
use File::Temp qw(tempdir);
use FindBin;
use lib "$FindBin::Bin/../boot";
use Guest;
use IO::Select;
use IO::Socket::UNIX;
use POSIX ();
use Test::More ();
use Time::HiRes qw(time sleep);
use X86;

our $source = $ENV{SOURCE} || "$FindBin::Bin/../..";
our $dir = tempdir(CLEANUP => 1);

# A compiler for x86 guests, or the test is skipped.
sub compiler { return X86::compiler() || Test::More::plan(skip_all => $X86::missing) }

# A gdb that knows x86-64, or the test is skipped.
sub debugger {
    for my $gdb (grep { $_ } $ENV{GDB}, 'gdb', 'gdb-multiarch') {
        my $said = `$gdb -nx -batch -ex 'set architecture i386:x86-64' -ex 'show architecture' 2>/dev/null` || '';
        return $gdb if $said =~ /set to "i386:x86-64"/;
    }
    Test::More::plan(skip_all => 'no gdb for x86-64 (package gdb or gdb-multiarch)');
}

sub run_or_die { my $said = `@_ 2>&1`; die "@_: $said" if $?; return $said }

# The boot sector guest/modes.S: its ELF file, and the disk image.
sub modes {
    my $cc = compiler();
    my ($elf, $image) = ("$dir/modes.elf", "$dir/modes.img");
    my $flags = '-m64 -nostdlib -static -no-pie -Wl,-Ttext=0x7c00,-e,start,--build-id=none,-z,noexecstack,-N';
    run_or_die("$cc $flags $source/tests/debug/guest/modes.S -o $elf");
    open my $in, '<:raw', $elf or die;
    local $/;
    my $file = <$in>;
    # The one segment that is loaded.
    my ($at) = unpack 'Q<', substr $file, 32, 8;
    my ($offset) = unpack 'Q<', substr $file, $at + 8, 8;
    my ($size) = unpack 'Q<', substr $file, $at + 32, 8;
    open my $out, '>:raw', $image or die;
    print $out substr($file, $offset, $size), "\0" x ((2 << 20) - $size);
    close $out;
    return ($elf, $image);
}

# A guest of tests/sys's kind from tests/debug/guest/NAME.c.
sub kernel {
    my ($name) = @_;
    my $cc = compiler();
    my $elf = "$dir/$name.elf";
    my $sys = "$source/tests/sys/guest";
    my $flags = '-m64 -mno-red-zone -std=gnu11 -O1 -g -ffreestanding -fno-pic -fno-pie -no-pie -fno-stack-protector ' .
        '-fno-asynchronous-unwind-tables -fcf-protection=none -fno-strict-aliasing -mgeneral-regs-only -nostdlib -static ' .
        "-I$sys -Wl,-T,$sys/guest.ld,--build-id=none,-z,max-page-size=4096,-z,norelro,-z,noexecstack";
    run_or_die("$cc $flags $sys/start.S $sys/lib.c $source/tests/debug/guest/$name.c -o $elf");
    return $elf;
}

# start(args => [...]): the emulator with a stub on a socket.
sub start {
    my ($class, %o) = @_;
    my $socket = "$dir/gdb" . ++$Gdb::count;
    my $guest = Guest->start(%o, args => ['-m', 64, '-nic', 'none', '-monitor', 'none', '-gdb',
        "unix:$socket", @{ $o{args} }]);
    for (1 .. 200 * $Guest::slow) { last if -S $socket; sleep 0.05 }
    return bless { guest => $guest, socket => $socket, dir => $dir }, $class;
}

sub guest { $_[0]{guest} }

# Runs gdb on the lines of SCRIPT; what it said.
sub script {
    my ($self, $script, %o) = @_;
    my $gdb = debugger();
    my $file = "$dir/script";
    open my $out, '>', $file or die;
    print $out "set pagination off\nset confirm off\nset width 0\nset remotetimeout " . 60 * $Guest::slow . "\n", "target remote $self->{socket}\n", $script;
    close $out;
    my $symbols = $o{symbols} ? "$o{symbols}" : '';
    my $limit = ($o{limit} || 60) * $Guest::slow;
    my $said = `timeout -k 5 $limit $gdb -nx -q -batch -x $file $symbols 2>&1`;
    $self->{status} = $? >> 8;
    return $said;
}

# --- a client of our own ---

sub connect {
    my ($self) = @_;
    my $s = IO::Socket::UNIX->new(Peer => $self->{socket}) or die "no stub: $!";
    $self->{s} = $s;
    $self->{buffer} = '';
    return $s;
}

sub hang_up { my ($self) = @_; close $self->{s} if $self->{s}; $self->{s} = undef }

sub raw { my ($self, $bytes) = @_; local $SIG{PIPE} = 'IGNORE'; return syswrite $self->{s}, $bytes }

sub put {
    my ($self, $packet) = @_;
    my $sum = unpack '%8C*', $packet;
    $self->raw(sprintf '$%s#%02x', $packet, $sum);
}

# The next packet, or undef. Acknowledgments are passed over.
sub get {
    my ($self, $timeout) = @_;
    my $end = time + (defined $timeout ? $timeout : 30) * $Guest::slow;
    for (;;) {
        $self->{buffer} =~ s/\A[+]+//;
        return $1 if $self->{buffer} =~ s/\A[+-]*\$([^#]*)#[0-9a-f]{2}//s;
        my $left = $end - time;
        return undef if $left <= 0 || !IO::Select->new($self->{s})->can_read($left);
        my $n = sysread $self->{s}, my $bytes, 65536;
        return undef unless $n;
        $self->{buffer} .= $bytes;
    }
}

sub ask { my ($self, $packet, $timeout) = @_; $self->put($packet); return $self->get($timeout) }

# A monitor command by qRcmd: its text.
sub monitor {
    my ($self, $command) = @_;
    my $text = '';
    $self->put('qRcmd,' . unpack 'H*', $command);
    while (defined(my $packet = $self->get)) {
        return $text if $packet eq 'OK';
        return undef unless $packet =~ /\AO(.*)/;
        $text .= pack 'H*', $1;
    }
    return undef;
}

# A 64-bit register by number (rip is 16).
sub reg { my ($self, $n) = @_; return unpack 'Q<', pack 'H16', $self->ask(sprintf 'p%x', $n) || '' }

1;
