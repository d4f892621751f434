#!/usr/bin/perl
# The stub and a client who means no good, or knows no manners; and a thousand single steps,
# counted. Whatever comes, the emulator lives, answers the next client, and the guest runs on when
# nobody is there.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Gdb;
use Test::More;
use Time::HiRes qw(time sleep);

my $long = ($ENV{LENGTH} || 'quick') eq 'long';
my $elf = Gdb::kernel('target');
my %address = map { /^(\w+) \w (\w+)$/ ? ($2 => hex $1) : () } `nm $elf 2>/dev/null`;
plan skip_all => 'no nm' unless $address{work};
my $gdb = Gdb->start(args => ['-smp', 2, '-kernel', $elf]);

# The counter of the first processor, as a client sees it.
sub rounds { return unpack 'Q<', pack 'H*', $gdb->ask(sprintf('m%x,8', $address{rounds})) || '00' x 8 }
sub grows {
    $gdb->connect;
    my $before = rounds();
    $gdb->hang_up;
    for (1 .. 50) {
        sleep 0.1;
        $gdb->connect;
        my $now = rounds();
        $gdb->hang_up;
        return 1 if $now > $before;
    }
    return 0;
}
sub lives {
    my ($name) = @_;
    my $answer;
    for (1 .. 100) { # he is sent away while what the last one sent is still being read
        $gdb->connect;
        $answer = $gdb->ask('?');
        $gdb->hang_up;
        last if defined $answer;
        sleep 0.1;
    }
    is($answer, 'T05thread:1;', "$name: the next client is answered");
}

for (1 .. 300) { last if grows() }
ok(grows(), 'the guest runs on after a client came and went');

# --- manners ---
$gdb->connect;
like($gdb->ask('qSupported:swbreak+;hwbreak+'), qr/PacketSize=4000;.*vContSupported\+/, 'what there is');
is($gdb->ask('vMustReplyEmpty'), '', 'an unknown packet');
is($gdb->ask('qXfer:features:read:other.xml:0,fff'), 'E00', 'an unknown document');
my ($xml, $at) = ('', 0);
for (;;) {
    my $part = $gdb->ask(sprintf 'qXfer:features:read:target.xml:%x,7f', $at);
    last unless $part =~ /\A([lm])(.*)/s;
    $xml .= $2;
    $at += length $2;
    last if $1 eq 'l';
}
like($xml, qr/\A<\?xml.*<\/target>\z/s, 'the description in pieces');
my $bits = 0;
$bits += $1 while $xml =~ /<reg [^>]*bitsize="(\d+)"/g;
is(length $gdb->ask('g'), $bits / 4, 'g is as long as described');
is($gdb->ask('G' . $gdb->ask('g')), 'OK', 'G takes what g gave');
for my $bad ('m', 'mzz', 'm0', 'm0,', 'm0,zz', 'M0,4:', 'M0,4:zz', 'M0,2000:00', 'X0,5:abc', 'X',
    'p', 'pffff', 'P', 'P0', 'P0=', 'P0=12',
    'Pffff=00', 'G12', 'H', 'Hg99', 'Hcx', 'T99', 'Tx', 'Z', 'Z0', 'Z0,', 'Z0,0', 'Z0,0,', 'Z2,0,0', 'Z2,0,ffffffffffff', 'Z0,10,1;X', 'Z0,10,1;X5,12',
    'Z0,10,1;X0,', 'Z0,10,1;Xffffffffffffffff,00', 'vCont;x', 'vCont;s:99', 'vCont;r', 'vCont;r1', 'vCont;r1,', 'vCont;C', 'C', 'Czz', 'S', 'czz',
    'qSearch:memory:', 'qSearch:memory:0;', 'qSearch:memory:0;ffffffffffffffff;a', 'qCRC:', 'qCRC:0,ffffffffffff',
    'qXfer:features:read:target.xml:', 'qXfer:features:read:target.xml:ffffffff,1', 'qRcmd,0',
    'qRcmd,zz', 'qThreadExtraInfo,99',
    'Qqemu.sstep=99', 'Qqemu.PhyMemMode:7') {
    like($gdb->ask($bad), qr/\AE/, "refused: $bad");
}
is($gdb->ask('vCont;c:0;s:ffffffffffffffffff'), 'E22', 'a thread of too many digits');
is($gdb->ask('m7fffffffffff0000,10'), 'E14', 'an address that is none');
is($gdb->ask('mffffffffffffffff,ffffffffffffffff'), 'E14', 'the last byte and all behind');
like($gdb->ask('m' . sprintf('%x', $address{work}) . ',ffffffff'), qr/\A(?:[0-9a-f]{2}){8192}\z/,
    'as much as fits');
is($gdb->ask('m0,0'), '', 'nothing of it');
for my $code ('27', '2027', '20ffff27', '210000', '220122000527', '26ffff27', '2200' . '05' x 3,
    '28' x 80, '32ff27', '33', '05', '34', 'ff',
    '22012000' . '00') {
    is($gdb->ask(sprintf 'Z0,%x,1;X%x,%s', $address{work}, length($code) / 2, $code), 'OK', "a condition taken: $code");
    like($gdb->ask('vCont;c', 20), qr/\AT05/, 'and met') ;
    $gdb->ask(sprintf 'z0,%x,1', $address{work});
}
is($gdb->ask('QStartNoAckMode'), 'OK', 'no acknowledgments from here');
# An endless loop that says false: the guest goes on, breaking in works.
is($gdb->ask(sprintf 'Z0,%x,1;X2,%s', $address{work}, '2200' . ''), 'OK', 'a condition that falls off its end');
$gdb->ask(sprintf 'z0,%x,1', $address{work});
is($gdb->ask(sprintf 'Z0,%x,1;X3,%s', $address{work}, '220027'), 'OK', 'a condition that is never true');
$gdb->put('vCont;c');
is($gdb->get(0.5), undef, 'never stops');
$gdb->raw("\x03");
like($gdb->get, qr/\AT02/, 'but for Ctrl-C');
$gdb->ask(sprintf 'z0,%x,1', $address{work});

# --- a thousand steps ---
sub icount { my ($n) = $gdb->monitor('info registers') =~ /instructions=(\d+)/; return $n }
# Begun on the first processor in work, away from the rounds with a fault in them.
$gdb->ask(sprintf 'Z1,%x,1', $address{work});
my $stop = '';
for (1 .. 2000) {
    $stop = $gdb->ask('vCont;c') || '';
    my $n = $gdb->reg(4) % 4096;
    last if $stop =~ /\AT05thread:1;/ && $n > 0 && $n < 3000;
}
like($stop, qr/\AT05thread:1;/, 'a breakpoint');
$gdb->ask(sprintf 'z1,%x,1', $address{work});
$gdb->ask('Hg1');
my ($count, $began, @path) = (icount(), time);
my $steps = 1000;
for (1 .. $steps) {
    last unless $gdb->ask('vCont;s:1') =~ /\AT05thread:1;/;
    push @path, $gdb->reg(16);
}
is(icount() - $count, $steps, "$steps steps are $steps instructions");
cmp_ok(scalar(keys %{ { map { $_ => 1 } @path } }), '>', 5, 'on their way');
my $loop = grep { $_ == $address{work} } @path;
cmp_ok($loop, '>', 10, 'round and round');
# A range step ends where the range does.
like($gdb->ask(sprintf 'vCont;r%x,%x:1', $address{work}, $address{work} + 4096), qr/\AT05thread:1;/, 'a range step');
like($gdb->ask('vCont;s:2'), qr/\AT05thread:2;/, 'the other processor steps');
$gdb->hang_up;

# Page tables in a device: looking finds nothing, and nobody waits for anybody.
$gdb->connect;
my @names = $xml =~ /<reg name="(\w+)"/g;
my ($cr3) = grep { $names[$_] eq 'cr3' } 0 .. $#names;
my $was = $gdb->ask(sprintf 'p%x', $cr3);
is($gdb->ask(sprintf 'P%x=%s', $cr3, unpack 'H*', pack 'Q<', 0xfed00000), 'OK',
    'CR3 leads to a device');
is($gdb->ask(sprintf 'm%x,8', $address{rounds}), 'E14', 'no memory there');
$gdb->monitor($_) for sprintf('gva2gpa 0x%x', $address{rounds}), sprintf('stop-on pte 0x%x',
    $address{rounds}), 'delete all', 'info mem';
is($gdb->ask(sprintf 'P%x=%s', $cr3, $was), 'OK', 'and back');
$gdb->hang_up;

# --- noise ---
ok(grows(), 'and runs on');
for my $noise ("\$m0,4#00", '$' . 'x' x 100000 . '#00', '$' . 'm' x 20000, '$$$$$$$$', '#00#00#00',
    '+' x 10000, '-' x 3000, "\x03" x 1000,
    '$}#7d', '$X0,1:}#', '$#00' x 5000, "\0" x 5000, join '', map { chr int rand 256 } 1 .. 50000) {
    $gdb->connect;
    $gdb->raw($noise);
    $gdb->get(0.05);
    $gdb->hang_up;
}
lives('noise');
# Asks and never listens.
$gdb->connect;
$gdb->{s}->blocking(0);
my $packet = '$mfff00000,2000#';
$packet .= sprintf '%02x', unpack '%8C*', 'mfff00000,2000';
my $end = time + ($long ? 20 : 2);
while (time < $end) { defined($gdb->raw($packet x 50)) or sleep 0.02 }
$gdb->hang_up;
lives('a flood');
# Half closed.
$gdb->connect;
$gdb->put('vCont;c');
shutdown $gdb->{s}, 1;
sleep 0.1;
$gdb->hang_up;
lives('a half-closed socket');
# Two at a time: the second is sent away, or waits.
$gdb->connect;
my $first = $gdb->{s};
my $other = IO::Socket::UNIX->new(Peer => $gdb->{socket});
ok(!IO::Select->new($other)->can_read(0.5) || !sysread($other, my $nothing, 1),
    'a second client hears nothing');
like($gdb->ask('?'), qr/^T05/, 'the first stays');
close $other;
$gdb->hang_up;
srand 1;
for my $round (1 .. ($long ? 2000 : 100)) {
    my @verbs = ('m', 'M', 'X', 'Z0', 'Z2', 'z0', 'p', 'P', 'G', 'H', 'vCont;', 'q', 'Q', 'qRcmd,', 'qXfer:', 'T', 'c', 's', 'D');
    $gdb->connect;
    for (1 .. 20) {
        my @tail = map { ('0' .. '9', 'a' .. 'f', ',', ';', ':', '=')[rand 20] } 1 .. rand 24;
        $gdb->put($verbs[rand @verbs] . join '', @tail);
    }
    $gdb->get(0.001);
    $gdb->hang_up;
}
lives('random packets');
$gdb->connect;
$gdb->ask('QStartNoAckMode');
is($gdb->monitor('stops'), "none\n", 'no breakpoint stayed');
is($gdb->monitor('stop-on port'), "usage: stop-on port|exception|msr NUMBER [COUNT], mmio CHIP OFFSET [COUNT], pte ADDRESS, mode, triple-fault\n", 'usage');
$gdb->put('k');
is($gdb->guest->wait_exit(20), 0, 'killed');
done_testing;
