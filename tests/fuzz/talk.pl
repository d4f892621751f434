#!/usr/bin/perl
# Clients that say anything: the gdb stub, the monitor and the control socket of a machine that
# runs, each given what its protocol has, at random and damaged. Whatever comes, the emulator lives,
# and serves the next client.
# perl tests/fuzz/talk.pl [-seed N] [-seconds N] [-only gdb|monitor|qmp]; quick: 2 s each, long: 60
# s each.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use FindBin;
use lib "$FindBin::Bin/../boot", "$FindBin::Bin/../debug";
use Guest;
use IO::Select;
use IO::Socket::UNIX;
use JSON::PP;
use Qmp;
use Test::More;
use Time::HiRes qw(time sleep);
use Tiny;

my $long = ($ENV{LENGTH} || 'quick') eq 'long';
my %o = (-seed => $long ? time % 1000000 : 1, -seconds => $long ? 60 : 2, -only => '');
%o = (%o, @ARGV);
$SIG{PIPE} = 'IGNORE';
$Guest::emulator = abs_path($Guest::emulator);
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die; # files that are named at random come to be here
END { chdir '/' }
open my $iso, '>', 'cd.iso'; print $iso "\0" x 4096; close $iso;
my $kernel = Tiny::kernel("$dir/kernel", Tiny::paging_code());
my $machine;

sub one_of { return $_[rand @_] }
sub number { return one_of(0, 1, 2, 3, 8, 16, 0xff, 0x1000, 0x101000, 0x10104b, 0xfee00000, 0xb8000, 0xffffffff, '18446744073709551615', int rand 2**31, -1) }
sub hex_number { return one_of(0, 1, 4, 8, 'fff', '1000', '101000', '10104b', 'fee00030', 'fed00000', 'b8000', 'ffffffff', 'ffffffffffffffff', '7fffffffffffffff', sprintf('%x', rand 2**32)) }
sub damaged { # a byte more, less, or another
    my ($text) = @_;
    return $text if rand() < 0.6;
    for (0 .. rand 3) {
        my $at = int rand(1 + length $text);
        my $n = one_of(0, 1, 1, 1, 5);
        $n = length($text) - $at if $at + $n > length $text;
        substr($text, $at, $n) = one_of('', chr int rand 256, substr($text, 0, int rand 20), one_of('#', '}', '"', '[', '{', "\0", "\e", ';', ':', ','));
    }
    return $text;
}

# --- what clients say: a message each ---

my @monitor_names;
sub monitor_word {
    return one_of(number(), sprintf('0x%x', rand 2**32), '$rip', '$eax', '$nothing', '$cr3+4*(2-1)',
        '(((1', '1/0', '-a', '-f', '-x', 'ide1-cd0', 'cd.iso', 'e1000', 'net0',
        'lapic', 'mc146818rtc', 'cpu0', 'ctrl-alt-f1', 'a-b-c-d-e', 'on', 'off', 'f1', 'f2', 'raw',
        'retain', 'int,exec', 'none', '"a b', '"q\\"x"', '*(int*)4', "'x'",
        'current', 'cr3=5', 'cr3=current', 'pte', 'mmio', 'port', 'mode', 'exception', 'msr', 'rw',
        'all', 'tcp::0-:22', 'tcp:127.0.0.1:1-:1', 'x' x rand 300);
}
sub monitor_message {
    my $command = one_of(@monitor_names);
    $command .= one_of('', '/x', '/10i', '/4xg', '/99999999x', '/zz', '/3c', '/', '/-5d')
        if $command =~ /^(x|xp|p|print|i)$/;
    $command .= ' ' . monitor_word() for 1 .. rand 4;
    my $keys = one_of('', '', "\t", "\t\t", "\x01\x0b", "\e[A", "\e[B\e[D", "\x10", "\x03",
        "\x12ab", "\x17", "\x7f" x 5, "\e[3~", "\e[999999999~", "\e[");
    return damaged("$command$keys") . one_of("\n", "\r", "\r\n", "\n\n");
}

my (@qmp_commands, %qmp_type);
sub qmp_value {
    my ($type, $depth) = @_;
    my $t = $qmp_type{$type};
    my $meta = $t && rand() > 0.1 ? $t->{'meta-type'} : '';
    return one_of(undef, JSON::PP::true, 5, -1, 1e300, 'text', [], {}, "\x{e9}\x{0}")
        if !$meta || $depth > 6;
    return one_of(@{ $t->{values} }) if $meta eq 'enum';
    return [map { qmp_value($t->{'element-type'}, $depth + 1) } 1 .. rand 4] if $meta eq 'array';
    if ($meta eq 'object') {
        my @members = @{ $t->{members} };
        push @members, map { @{ $qmp_type{ $_->{type} }{members} } } one_of(@{ $t->{variants} })
            if $t->{tag};
        return { map { $_->{name} => qmp_value($_->{type}, $depth + 1) }
            grep { !exists $_->{default} || rand() < 0.4 } @members };
    }
    my $kind = $t->{'json-type'};
    return $kind eq 'int' ? 0 + one_of(0, 1, -1, 0x101000, 4096, 2**40, int rand 2**31, 9223372036854775807) : $kind eq 'boolean' ? one_of(JSON::PP::true, JSON::PP::false) :
        one_of('f1', 'ide1-cd0', 'cd.iso', 'net0', 'e1000', '/machine', '/machine/lapic', 'device',
            'cmos', 'info status', 'x/4i $pc', 'x' x rand 500, "\x{20ac}");
}
sub qmp_message {
    my $command = one_of(@qmp_commands);
    my %message = (execute => $command->{name});
    $message{arguments} = qmp_value($command->{'arg-type'}, 0) if rand() < 0.9;
    $message{id} = qmp_value('any', 0) if rand() < 0.3;
    return damaged($Qmp::json->encode(\%message)) . one_of("\n", '', ' ', "\r\n");
}

sub gdb_message {
    my @simple = ('?', 'g', 'qSupported:swbreak+;hwbreak+;xmlRegisters=i386', 'QStartNoAckMode', 'qfThreadInfo', 'qsThreadInfo', 'qC', 'qAttached', 'vCont?', 'vMustReplyEmpty',
        'vCtrlC', '!', 'D', 'D;1', 'vCont;c', 'vCont;s:1', 'vCont;s:2;c', 'c', 's', 'vCont;r101000,102000:1', 'Hg0', 'Hg1', 'Hg2', 'Hc-1', 'T1', 'T2', 'R00', 'qqemu.sstepbits', 'qqemu.sstep',
        'Qqemu.sstep=' . int rand 9, 'Qqemu.PhyMemMode:' . int rand 3, 'qqemu.PhyMemMode',
        'qThreadExtraInfo,1', 'QThreadEvents:1', 'X101000,0:', 'qOffsets', 'qSymbol::', 'qTStatus');
    my $packet = one_of(
        (map { one_of(@simple) } 1 .. 4),
        sprintf('m%s,%s', hex_number(), hex_number()),
        sprintf('M%s,4:%08x', hex_number(), rand 2**32),
        sprintf('X%s,3:}#}%s', hex_number(), 'ab'),
        sprintf('p%x', rand 100),
        sprintf('P%x=%s', rand 100,
            unpack('H*', pack('Q<2', map { one_of(0, 1, 2**32, int rand 2**31, 0x101000) } 1, 2))),
        sprintf('%s%d,%s,%s', one_of('Z', 'Z', 'z'), rand 6, hex_number(), one_of(1, 2, 4, 8,
            hex_number())),
        sprintf('Z%d,10104b,1;X%s', rand 2, join '', map { my $n = 1 + int rand 20; sprintf '%x,%s', $n, join '', map { sprintf '%02x', one_of(0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x02, 0x04, 0x09, 0x17, 0x1a, 0x20, 0x21, 0x28, int rand 256) } 1 .. $n } 0 .. rand 2),
        sprintf('qSearch:memory:%s;%s;%s', hex_number(), one_of(1, 8, '1000', hex_number()), 'abc'),
        sprintf('qCRC:%s,%s', hex_number(), one_of(4, '1000', hex_number())),
        sprintf('qXfer:features:read:target.xml:%s,%s', hex_number(), hex_number()),
        'qRcmd,' . unpack('H*', monitor_message()),
        sprintf('vCont;%s', join ';', map { one_of('c', 's', 'r1,2', 't', 'C05') . one_of('', ':1', ':2', ':-1', ':p1.1') } 0 .. rand 3));
    return "\x03" if rand() < 0.05;
    my $text = damaged($packet);
    return one_of('', '+', '-', '') . sprintf '$%s#%02x', $text,
        (unpack('%8C*', $text) ^ (rand() < 0.03 ? 1 : 0));
}

# --- the machine, and a client after the other ---

sub begin {
    $machine->stop if $machine;
    unlink glob "$dir/*.socket";
    $machine = Guest->start(monitor => 1, args => ['-m', 32, '-smp', 2, '-nic',
        'user,id=net0,restrict=on', '-device', 'virtio-balloon-pci', '-kernel', $kernel,
        '-no-shutdown',
        '-gdb', "unix:$dir/gdb.socket", '-qmp', "unix:$dir/qmp.socket,server=on,wait=off",
        '-chardev', "socket,id=m,path=$dir/monitor.socket,server=on,wait=off", '-mon', 'm']);
    for (1 .. 200 * $Guest::slow) { last if $machine->monitor('p/x $pc') =~ /0x10104[bc]/; sleep 0.05 }
    return $machine;
}

sub talk { # one client of KIND; what he heard
    my ($kind, $message, $count) = @_;
    my $s = IO::Socket::UNIX->new(Peer => "$dir/$kind.socket") or return undef;
    $s->blocking(0);
    my ($heard, $listens) = ('', rand() < 0.8);
    syswrite $s, '{"execute":"qmp_capabilities"}' if $kind eq 'qmp' && rand() < 0.95;
    for (1 .. $count) {
        my ($text, $at, $end) = ($message->(), 0, time + 2);
        while ($at < length $text && time < $end) {
            my $n = syswrite $s, $text, length $text, $at;
            if (defined $n) { $at += $n } elsif ($!{EAGAIN}) { sysread $s, $heard, 65536, length $heard if $listens; sleep 0.002 } else { return $heard }
        }
        next unless $listens && IO::Select->new($s)->can_read(0.003);
        sysread $s, $heard, 65536, length $heard or last;
    }
    shutdown $s, one_of(0, 1, 2) if rand() < 0.3;
    close $s;
    return $heard;
}

# '' while it lives, else what was wrong: nothing ("left") when it was told to in words, "k" or "q".
sub gone {
    my $status = $machine->{pid} ? $machine->wait_exit(0.001) : 0;
    return !defined $status ? '' : $status ? "exit status $status" : 'left';
}

my %says = (gdb => \&gdb_message, monitor => \&monitor_message, qmp => \&qmp_message);
begin();
@monitor_names = grep { !/^(q|quit|o|log)$/ } map { split /\|/ } $machine->monitor('help') =~ /^(\S+) /mg;
push @monitor_names, map { "info $_" } $machine->monitor('info') =~ /^info (\S+) /mg;
my $q = Qmp->negotiated("$dir/qmp.socket");
for my $t (@{ $q->run('query-qmp-schema') }) {
    if ($t->{'meta-type'} eq 'command') { push @qmp_commands, $t unless $t->{name} eq 'quit' } else { $qmp_type{ $t->{name} } = $t }
}
close $q->{socket};
cmp_ok(scalar @monitor_names, '>', 50, 'the monitor\'s commands');
cmp_ok(scalar @qmp_commands, '>', 40, 'the control socket\'s');

for my $kind (grep { !$o{-only} || $_ eq $o{-only} } qw(gdb monitor qmp)) {
    my ($end, $clients, $messages, $heard, $wrong) = (time + $o{-seconds}, 0, 0, 0, '');
    while (time < $end && !$wrong) {
        my $seed = $o{-seed} + $clients++;
        srand $seed;
        my $count = 1 + int rand 60;
        my $answer = talk($kind, $says{$kind}, $count);
        $messages += $count;
        $heard += length($answer // '');
        my $gone = gone() or next;
        if ($gone eq 'left') { begin() } else { $wrong = "seed $seed: $gone" }
    }
    is($wrong, '', "$kind: the emulator lives") or diag $machine->{errors};
    unlike($machine->{errors}, qr/Sanitizer|runtime error/, "$kind: nothing for the sanitizers");
    cmp_ok($heard, '>', $clients * 10,
        "$kind: $clients clients with $messages messages were answered");
    next if $wrong;
    $machine->monitor($_) for 'delete all', 'stop', 'system_reset', 'cont';
    my $back = 0;
    for (1 .. 300 * $Guest::slow) { last if $back = $machine->monitor('p/x $pc') =~ /0x10104[bc]/; sleep 0.1 }
    ok($back, "$kind: and the machine starts anew") or diag $machine->monitor('info status'),
        $machine->monitor('info registers'), $machine->monitor('stops');
}
$machine->monitor('quit');
is($machine->wait_exit(20), 0, 'quit');
done_testing();
