#!/usr/bin/perl
# The control socket and QEMU's own client, the Python package qemu.qmp: installed, or out of the
# distribution's source of QEMU. What managers send: they ask what there is, run the machine, look
# at it, stop it, and wait for events.
# length: long
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin, "$FindBin::Bin/../boot";
use Debian;
use File::Temp qw(tempdir);
use Guest;
use Test::More;
use Time::HiRes qw(sleep);
use Tiny;

my $path = '';
if (system('python3 -c "import qemu.qmp" >/dev/null 2>&1')) {
    my $source = Debian::lib("source_unpacked qemu '*/python/qemu'");
    $path = "$source/python" if $source;
    plan skip_all => 'no qemu.qmp for Python, and the source of QEMU cannot be fetched'
        if !$path || system("PYTHONPATH=$path python3 -c 'import qemu.qmp' >/dev/null 2>&1");
}
$ENV{PYTHONPATH} = $path if $path;

my $dir = tempdir(CLEANUP => 1);
my $kernel = Tiny::kernel("$dir/kernel", Tiny::paging_code());
my $g = Guest->start(args => ['-m', '32', '-smp', '2', '-S', '-name', 'tiny', '-nic',
    'user,id=net0', '-kernel', $kernel, '-qmp', "unix:$dir/qmp,server=on,wait=off"]);
for (1 .. 100) { last if -S "$dir/qmp"; sleep 0.1 }

open my $script, '>', "$dir/client.py" or die;
print $script <<'PYTHON';
import asyncio, os, sys
from qemu.qmp import QMPClient, EventListener
from qemu.qmp.qmp_client import ExecuteError

async def main():
    folder = sys.argv[1]
    q = QMPClient('manager')
    await q.connect(folder + '/qmp')
    say = lambda *words: print(*words, flush=True)
    say('greeting', sorted(q.greeting._asdict()['QMP']) == ['capabilities', 'version'])

    async def fails(command, **arguments):
        try:
            await q.execute(command, arguments)
        except ExecuteError as error:
            return error.error.class_ if hasattr(error.error, 'class_') else error.error_class

    commands = {c['name'] for c in await q.execute('query-commands')}
    schema = {s['name'] for s in await q.execute('query-qmp-schema') if s['meta-type'] == 'command'}
    say('commands', commands == schema and {'stop', 'cont', 'quit', 'query-status', 'query-block'} <= commands)
    say('status', (await q.execute('query-status'))['status'])
    say('name', (await q.execute('query-name'))['name'])
    cpus = await q.execute('query-cpus-fast')
    say('cpus', [c['cpu-index'] for c in cpus], all(os.path.exists('/proc/%d' % c['thread-id']) for c in cpus))
    say('block', sorted(b['device'] for b in await q.execute('query-block')))
    say('target', (await q.execute('query-target'))['arch'], (await q.execute('query-kvm'))['enabled'])
    say('machines', [m['name'] for m in await q.execute('query-machines') if m.get('is-default')])
    say('properties', [p['name'] for p in await q.execute('device-list-properties', {'typename': 'e1000'}) if p['name'] == 'mac'])
    say('tree', any(o['name'] == 'mc146818rtc' for o in await q.execute('qom-list', {'path': '/machine'})))
    say('monitor', (await q.execute('human-monitor-command', {'command-line': 'info status'})).strip())
    say('unknown', await fails('no-such-command'))
    say('missing', await fails('screendump'))
    say('wrong', await fails('stop', force=True))

    async def until(listener, name):
        while True:
            event = await asyncio.wait_for(listener.get(), 30)
            if event['event'] == name:
                return event

    with q.listener() as events:
        await q.execute('cont')
        await until(events, 'RESUME')
        say('running', (await q.execute('query-status'))['running'])
        await q.execute('stop')
        await until(events, 'STOP')
        say('paused', (await q.execute('query-status'))['status'])
        await q.execute('cont')
        await q.execute('system_powerdown')
        await until(events, 'POWERDOWN')
        await q.execute('system_reset')
        say('reset', (await until(events, 'RESET'))['data'])
        await q.execute('screendump', {'filename': folder + '/shot.ppm'})
        say('picture', open(folder + '/shot.ppm', 'rb').read(2))
        many = await asyncio.gather(*[q.execute('query-status') for _ in range(200)])
        say('many', all(m['running'] for m in many))
        await q.disconnect()
    again = QMPClient('again')
    await again.connect(folder + '/qmp')
    with again.listener() as events:
        await again.execute('quit')
        say('quit', (await until(events, 'SHUTDOWN'))['data'])
    try:
        await again.disconnect()
    except EOFError:
        pass

asyncio.run(main())
PYTHON
close $script;
my $said = `timeout -k 5 120 python3 $dir/client.py $dir 2>&1`;
my %said = $said =~ /^(\w+) (.*)$/mg;
my %wanted = (greeting => 'True', commands => 'True', status => 'prelaunch', name => 'tiny',
    cpus => '[0, 1] True', block => "['ide1-cd0']",
    target => 'x86_64 False', machines => "['pc']", properties => "['mac']", tree => 'True',
    monitor => 'VM status: paused (prelaunch)',
    unknown => 'CommandNotFound', missing => 'GenericError', wrong => 'GenericError',
    running => 'True', paused => 'paused',
    reset => "{'guest': False, 'reason': 'host-qmp-system-reset'}", picture => "b'P6'",
    many => 'True', quit => "{'guest': False, 'reason': 'host-qmp-quit'}");
is($said{$_}, $wanted{$_}, $_) for sort keys %wanted;
diag($said) unless Test::More->builder->is_passing;
is($g->wait_exit(20), 0, 'left');
done_testing();
