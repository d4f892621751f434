#!/usr/bin/perl
# The control sockets: negotiation, every command, answers as introspection says, events, clients
# that mean ill.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Guest;
use Qmp;
use Test::More;
use Time::HiRes qw(time sleep);
use Tiny;

$SIG{PIPE} = 'IGNORE';
my $probe = Guest->start(args => ['-nographic', '-S', '-nic', 'none', '-qmp', 'null', '-m', '16'],
    no_serial => 1);
my $status = $probe->wait_exit(0.5);
if (defined $status && $probe->{errors} =~ /without jansson/) { plan skip_all => 'built without jansson' }
$probe->stop;

my $files = $probe->{dir};
my $kernel = Tiny::kernel("$files/kernel", Tiny::paging_code());
my ($a, $b, $c) = map { "$files/$_" } qw(a b c);
open my $iso, '>', "$files/cd.iso"; print $iso "\0" x 4096; close $iso;
my $g = Guest->start(args => ['-m', '32', '-smp', '2', '-name', 'tiny', '-kernel', $kernel, '-nic',
    'user,id=net0', '-device', 'virtio-balloon-pci',
    '-S', '-qmp', "unix:$a,server=on,wait=off", '-qmp-pretty', "unix:$b,server,nowait",
    '-chardev', "socket,id=c0,path=$c,server=on,wait=off", '-mon', 'chardev=c0,mode=control'],
    monitor => 1);

# --- negotiation ---
my $q = Qmp->connect($a);
ok($q->{greeting}{QMP}{version}{qemu}, 'greeting');
is_deeply($q->{greeting}{QMP}{capabilities}, [], 'capabilities');
is((stat $a)[2] & 0777, 0600, 'a socket is for its owner alone');
like($q->failure('query-status'), qr/\ACommandNotFound: Expecting capabilities negotiation/,
    'before negotiation');
is_deeply($q->ask('qmp_capabilities', undef, 'x'), { return => {}, id => 'x' },
    'negotiation, id echoed');
like($q->failure('qmp_capabilities'), qr/\ACommandNotFound: .*already complete/, 'twice');
is_deeply($q->ask('query-kvm', {}, { deep => [1] })->{id}, { deep => [1] },
    'an id that is no string');

# --- introspection ---
my %type = map { ("$_->{'meta-type'}" =~ /^(command|event)$/ ? "$1 " : '') . $_->{name} => $_ } @{ $q->run('query-qmp-schema') };
sub conforms { # '' or what is wrong
    my ($name, $value, $where) = @_;
    my $t = $type{$name} or return "$where: no type $name";
    my $meta = $t->{'meta-type'};
    if ($meta eq 'builtin') {
        my $kind = JSON::PP::is_bool($value) ? 'boolean' : ref $value ? 'object' : Qmp::json_kind($value);
        return $t->{'json-type'} eq 'value' || $t->{'json-type'} eq $kind
            || ($t->{'json-type'} eq 'number' && $kind eq 'int') ? '' : "$where: $kind is no $name";
    }
    return (grep { $_ eq $value } @{ $t->{values} }) ? '' : "$where: '$value' is no $name"
        if $meta eq 'enum';
    if ($meta eq 'array') {
        return "$where: no array" unless ref $value eq 'ARRAY';
        for my $i (0 .. $#$value) { my $wrong = conforms($t->{'element-type'}, $value->[$i], "$where\[$i]"); return $wrong if $wrong }
        return '';
    }
    return "$where: no object" unless ref $value eq 'HASH';
    my @members = @{ $t->{members} };
    if ($t->{tag}) {
        my ($variant) = grep { $_->{case} eq $value->{ $t->{tag} } } @{ $t->{variants} };
        push @members, @{ $type{ $variant->{type} }{members} } if $variant;
    }
    my %known = map { $_->{name} => $_ } @members;
    for my $m (@members) {
        if (!exists $value->{ $m->{name} }) { return "$where: $m->{name} is missing" unless exists $m->{default}; next }
        my $wrong = conforms($m->{type}, $value->{ $m->{name} }, "$where.$m->{name}");
        return $wrong if $wrong;
    }
    for (keys %$value) { return "$where: $_ is unexpected" unless $known{$_} }
    return '';
}
sub Qmp::json_kind { my ($v) = @_; return !defined $v ? 'null' : $v =~ /\A-?\d+\z/ && JSON::PP->new->allow_nonref->encode($v) !~ /"/ ? 'int' : 'string' }

my %no_query = map { $_ => 1 } qw(quit);
for my $t (map { $type{$_} } sort grep { /^command / } keys %type) {
    my $name = $t->{name};
    ok($type{ $t->{'arg-type'} } && $type{ $t->{'ret-type'} }, "$name: its types are there");
    next unless $name =~ /^query-|^qom-list-types/;
    my $answer = $q->ask($name);
    is($answer->{error} ? $answer->{error}{desc} : conforms($t->{'ret-type'}, $answer->{return},
        $name), '', "$name answers as its type says");
}
is_deeply([sort map { $_->{name} } @{ $q->run('query-commands') }],
    [sort map { s/^command //r } grep { /^command / } keys %type], 'query-commands');
for my $t (values %type) { # nothing refers to a type that is not there
    for my $used (grep { defined } (map { $_->{type} } @{ $t->{members} || [] }, @{ $t->{variants} || [] }), @$t{qw(arg-type ret-type element-type)}) {
        fail("$t->{name}: no type $used") unless $type{$used};
    }
}

# --- what they say ---
is($q->run('query-status')->{status}, 'prelaunch', 'prelaunch');
is($q->run('query-name')->{name}, 'tiny', 'name');
is(scalar @{ $q->run('query-cpus-fast') }, 2, 'processors');
is($q->run('query-memory-size-summary')->{'base-memory'}, 32 << 20, 'memory');
ok((grep { $_->{qdev_id} eq 'e1000' } @{ $q->run('query-pci')->[0]{devices} }), 'PCI');
like($q->failure('human-monitor-command'), qr/\AGenericError: Parameter 'command-line' is missing/,
    'an argument is missing');
like($q->failure('human-monitor-command', { 'command-line' => 5 }),
    qr/Invalid parameter type for 'command-line', expected: string/, 'of another type');
like($q->failure('stop', { now => 1 }), qr/Parameter 'now' is unexpected/, 'unexpected');
like($q->failure('bogus-command'),
    qr/\ACommandNotFound: The command bogus-command has not been found/, 'no such command');
like($q->failure('screendump', { filename => 'x', format => 'gif' }),
    qr/'format' does not accept value 'gif'/, 'a value that is none of the enumeration');
like($q->run('human-monitor-command', { 'command-line' => 'info status' }),
    qr/paused \(prelaunch\)/, 'human-monitor-command');
like($q->run('human-monitor-command', { 'command-line' => 'info registers', 'cpu-index' => 1 }),
    qr/CPU#1/, 'of another processor');
like($q->failure('human-monitor-command', { 'command-line' => 'x', 'cpu-index' => 9 }),
    qr/cpu-index/, 'of none');

# --- running, with events ---
is_deeply($q->run('cont'), {}, 'cont');
my $event = $q->event('RESUME');
ok($event && $event->{timestamp}{seconds} > 1e9, 'RESUME');
is($q->run('query-status')->{status}, 'running', 'running');
for (1 .. 100 * $Guest::slow) { last if $q->run('human-monitor-command', { 'command-line' => 'info mem' }) =~ /^0/; sleep 0.1 }
my $r = Qmp->negotiated($b);
my $s = Qmp->negotiated($c);
is_deeply($q->run('stop'), {}, 'stop');
ok($q->event('STOP') && $r->event('STOP') && $s->event('STOP'), 'STOP, on each socket');
is($r->run('query-status')->{status}, 'paused', 'paused, asked on another socket');
$q->run('cont');
is_deeply($s->run('system_reset'), {}, 'system_reset');
$event = $q->event('RESET');
is($event && $event->{data}{reason}, 'host-qmp-system-reset', 'RESET');
$q->run('system_powerdown');
ok($q->event('POWERDOWN'), 'POWERDOWN');
like($q->failure('system_wakeup'), qr/not in suspended state/, 'system_wakeup');
is_deeply($q->run('inject-nmi'), {}, 'inject-nmi');
$q->run('blockdev-change-medium', { id => 'ide1-cd0', filename => "$files/cd.iso",
    format => 'raw' });
my ($cd) = grep { $_->{device} eq 'ide1-cd0' } @{ $q->run('query-block') };
is($cd->{inserted}{file}, "$files/cd.iso", 'change');
is(conforms('BlockInfo', $cd, 'query-block'), '', 'a medium as its type says');
is_deeply($q->run('blockdev-open-tray', { id => 'ide1-cd0' }), {}, 'open the tray');
$event = $q->event('DEVICE_TRAY_MOVED');
is_deeply($event && $event->{data}, { device => 'ide1-cd0', id => 'ide1-cd0',
    'tray-open' => JSON::PP::true }, 'DEVICE_TRAY_MOVED');
is_deeply($q->run('blockdev-close-tray', { id => 'ide1-cd0' }), {}, 'close it');
ok((grep { $_->{device} eq 'ide1-cd0' && $_->{inserted} } @{ $q->run('query-block') }),
    'the medium is back');
is_deeply($q->run('eject', { device => 'ide1-cd0' }), {}, 'eject');
like($q->failure('eject', { device => 'nothing' }),
    qr/\ADeviceNotFound: Device 'nothing' not found/, 'eject of nothing');
like($q->failure('eject', {}), qr/'id' is missing/, 'eject of what');
is_deeply($q->run('send-key',
    { keys => [map { { type => 'qcode', data => $_ } } qw(ctrl alt delete)] }), {}, 'send-key');
is_deeply($q->run('send-key', { keys => [{ type => 'number', data => 28 }], 'hold-time' => 5 }), {},
    'send-key by number');
like($q->failure('send-key', { keys => [{ type => 'qcode', data => 'anykey' }] }),
    qr/does not accept value 'anykey'/, 'a key that is none');
like($q->failure('send-key', { keys => [{ type => 'qcode' }] }), qr/'data' is missing/,
    'a key without its name');
is_deeply($q->run('input-send-event',
    { events => [{ type => 'rel', data => { axis => 'x', value => 3 } }, { type => 'btn',
    data => { button => 'left', down => JSON::PP::true } },
    { type => 'key', data => { key => { type => 'qcode', data => 'a' },
    down => JSON::PP::true } }] }), {}, 'input-send-event');
is_deeply($q->run('screendump', { filename => "$files/s.ppm" }), {}, 'screendump');
ok(-s "$files/s.ppm", 'a picture');
is_deeply($q->run('pmemsave', { val => 0x101000, size => 4, filename => "$files/m" }), {},
    'pmemsave');
is(do { local (@ARGV, $/) = "$files/m"; <> }, pack('V', 0x1badb002), 'memory');
like($q->failure('memsave', { val => 0, size => -5, filename => "$files/m" }), qr/size/,
    'memsave of a negative size');
is_deeply($q->run('set_link', { name => 'net0', up => JSON::PP::false }), {}, 'set_link');
is_deeply($q->run('balloon', { value => 16 << 20 }), {}, 'balloon');
is($q->run('query-balloon')->{actual}, 32 << 20, 'query-balloon: the guest has no driver');
is_deeply($q->run('set-action', { panic => 'pause' }), {}, 'set-action');
ok((grep { $_->{name} eq 'mc146818rtc' } @{ $q->run('qom-list', { path => '/machine' }) }),
    'qom-list');
is(ref $q->run('qom-get', { path => '/machine/mc146818rtc', property => 'cmos' }), 'ARRAY',
    'qom-get');
like($q->failure('qom-get', { path => '/machine/nothing', property => 'x' }), qr/not found/,
    'qom-get of nothing');
ok((grep { $_->{name} eq 'mac' } @{ $q->run('device-list-properties', { typename => 'e1000' }) }),
    'device-list-properties');

# --- how it is written ---
$q->send('{"execute":"query-kvm","id":1}{"execute":"query-kvm","id":2} [ ] {"execute" : "query-kvm" , "id":3}');
is_deeply([map { my $m = $q->answer; $m->{id} // ($m->{error} ? 'error' : '?') } 1 .. 4], [1, 2, 'error', 3], 'several values in a row');
for (split //, '{"execute":"query-name","id":"}{\\"["}') { $q->send($_) }
is($q->answer->{id}, '}{"[', 'byte by byte; brackets in a string');
$r->send("{\"execute\":\"query-kvm\"}\n");
sleep 0.3;
sysread $r->{socket}, my $pretty, 4096;
like($pretty, qr/\{\r?\n    "return": \{/, '-qmp-pretty');
for (['garbage', qr/JSON parse error/], ['{"execute":}', qr/JSON parse error/],
    ['[1,2]', qr/must be a JSON object/], ['"text"', qr/must be a JSON object/],
    ['{}', qr/lacks member 'execute'/], ['{"execute":5}', qr/must be a string/],
    ['{"execute":"stop","arguments":[]}', qr/must be an object/],
    ['{"execute":"stop","extra":1}', qr/'extra' is unexpected/], ["{\"execute\":\"\xff\xfe\"}",
    qr/JSON parse error/], ["{\"a\":1,\"a\":2}", qr/JSON parse error/],
    ["{\"execute\":\"st\0op\"}", qr/JSON parse error/], ['}', qr/JSON parse error/],
    ['{"execute":"' . 'x' x 5000 . '"}', qr/has not been found/],
    ['{"execute":"' . "\xc3\xa9" x 300 . '"}', qr/has not been found/], ['[' x 300 . ']' x 300, qr/must be a JSON object/]) {
    $q->send("$_->[0]\n");
    my $answer = $q->answer;
    like($answer ? $answer->{error}{desc} : 'nothing', $_->[1],
        'refused: ' . ($_->[0] =~ s/[^ -~]/?/gr =~ s/(.{40}).+/$1…/r));
}
is_deeply($q->run('query-kvm'), { enabled => JSON::PP::false, present => JSON::PP::false },
    'and it goes on');

# --- clients that mean ill ---
close $s->{socket};
for (['nesting', '[' x 100_000], ['a string without end', '"' . 'x' x 3_000_000], ['an object without end', '{' . '"a":1,' x 500_000]) {
    my $evil = Qmp->negotiated($c);
    $evil->{socket}->blocking(0);
    my ($text, $end, $at) = ($_->[1], time + 20 * $Guest::slow, 0);
    while ($at < length $text && time < $end) {
        my $n = syswrite $evil->{socket}, $text, 65536, $at;
        if (defined $n) { $at += $n } elsif ($!{EAGAIN}) { sleep 0.01 } else { last }
    }
    my $message = $evil->next_message(20);
    like($message && $message->{error} ? $message->{error}{desc} : 'closed',
        qr/limit exceeded|closed/, "$_->[0]: refused and let go");
    close $evil->{socket};
}
my $flood = Qmp->negotiated($c);
$flood->{socket}->blocking(0);
my $end = time + 3;
my $sent = 0;
while (time < $end) { my $n = syswrite $flood->{socket}, '{"execute":"query-qmp-schema"}' x 100; if (!defined $n) { last if !$!{EAGAIN} || $sent++ > 20; sleep 0.05 } }
is($q->run('query-status')->{running}, JSON::PP::true,
    'a flood that nobody reads: others are served');
close $flood->{socket};
my $half = Qmp->negotiated($c);
$half->send('{"execute":"query-name"}');
shutdown $half->{socket}, 1;
is($half->answer->{return}{name}, 'tiny', 'half closed: still answered');
my $noise = IO::Socket::UNIX->new(Peer => $c);
syswrite $noise, join '', map { chr int rand 256 } 1 .. 20000;
close $noise;
ok(Qmp->negotiated($c), 'noise, and the next client is served');
like($g->monitor('info status'), qr/running/, 'the guest runs on');

is_deeply($q->run('quit'), {}, 'quit');
$event = $q->event('SHUTDOWN');
is_deeply($event && $event->{data}, { guest => JSON::PP::false, reason => 'host-qmp-quit' },
    'SHUTDOWN');
is($g->wait_exit(20), 0, 'left');
ok(!-e $a && !-e $b && !-e $c, 'the sockets are gone');

# --- what the guest does ---
sub with_guest {
    my ($code, @args) = @_;
    my $path = "$files/guest.qmp";
    my $guest = Guest->start(args => ['-m', '32', '-nic', 'none', '-S', '-kernel',
        Tiny::kernel("$files/kernel", $code), '-qmp', "unix:$path,server=on,wait=off", @args]);
    my $client = Qmp->negotiated($path);
    $client->run('cont');
    return ($guest, $client);
}
my ($guest, $client) = with_guest(Tiny::out_code(0x505, 1), '-device', 'pvpanic', '-action',
    'panic=pause');
$event = $client->event('GUEST_PANICKED');
is($event && $event->{data}{action}, 'pause', 'GUEST_PANICKED');
ok($client->event('STOP'), '… and stops');
is($client->run('query-status')->{status}, 'guest-panicked', 'guest-panicked');
like($client->failure('cont'), qr/Resetting the Virtual Machine is required/,
    'does not go on without a reset');
$client->run('system_reset');
ok($client->event('RESET'), 'a reset');
is($client->run('query-status')->{status}, 'paused', 'makes it a machine that is paused');
$guest->stop;
($guest, $client) = with_guest(Tiny::out_code(0x64, 0xfe), '-no-reboot');
$event = $client->event('SHUTDOWN');
is_deeply($event && $event->{data}, { guest => JSON::PP::true, reason => 'guest-reset' },
    'a reset with -no-reboot');
is($guest->wait_exit(20), 0, '… ends it');

# --- standard input and output ---
my $stdio = Guest->start(args => ['-display', 'none', '-S', '-nic', 'none', '-m', '16', '-serial',
    'null', '-qmp', 'stdio'], no_serial => 1);
ok($stdio->expect(qr/"QMP".*\n/, 20), '-qmp stdio: greeting');
$stdio->send('{"execute":"qmp_capabilities"}{"execute":"quit"}');
ok($stdio->expect(qr/"return".*"return".*"SHUTDOWN"/s, 20), '… and answers');
is($stdio->wait_exit(20), 0, '… and leaves');

done_testing();
