#!/usr/bin/perl
# Everything that can be wrong with the command line and the files it names: one line on standard error that
# says what and where, exit status 1, nothing on standard output, files as they were, at once.
use strict;
use warnings;
use Digest::MD5;
use File::Temp qw(tempdir);
use IO::Socket::INET;
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

my $emulator = $ENV{LYREBIRD} || './lyrebird';
my $dir = tempdir(CLEANUP => 1);
our $user; # who runs it, when not we ourselves
my @quiet = qw(-display none -serial null -monitor none);

sub make_file { my ($name, $bytes) = @_; open my $f, '>:raw', "$dir/$name" or die; print $f $bytes; close $f; return "$dir/$name" }
sub slurp { my ($path) = @_; open my $f, '<:raw', $path or return ''; local $/; return scalar <$f> }
# What the files hold; of large ones only the size and when they were changed.
sub digests {
    return join ' ', map { !-f $_ ? $_ : -s _ < 1 << 20 ? "$_:" . Digest::MD5::md5_hex(slurp($_)) : "$_:" . join ',', (stat _)[7, 9] } sort glob "$dir/*";
}

# Runs the emulator until it leaves (for at most 20 s, as the host may be busy): (status or undef, standard
# output, standard error).
sub run {
    my (@args) = @_;
    my $pid = fork();
    die "fork: $!" unless defined $pid;
    if (!$pid) {
        open STDIN, '<', '/dev/null'; open STDOUT, '>', "$dir.out"; open STDERR, '>', "$dir.err";
        POSIX::setuid($user) if $user;
        exec $emulator, @args or POSIX::_exit(127);
    }
    my ($end, $status) = (time + 20 * ($ENV{SLOW} || 1));
    while (time < $end) {
        if (waitpid($pid, POSIX::WNOHANG()) == $pid) { $status = $?; last }
        select undef, undef, undef, 0.01;
    }
    unless (defined $status) { kill 'KILL', $pid; waitpid $pid, 0 }
    my @result = (defined $status ? ($status & 127 ? 128 + ($status & 127) : $status >> 8) : undef, slurp("$dir.out"), slurp("$dir.err"));
    unlink "$dir.out", "$dir.err";
    return @result;
}

# bad(name, pattern of the line, arguments...)
sub bad {
    my ($name, $pattern, @args) = @_;
    my $before = digests();
    my ($status, $out, $err) = run(@args);
    my @wrong;
    push @wrong, 'runs on' unless defined $status;
    push @wrong, "exit status $status" if defined $status && $status != 1;
    push @wrong, 'standard output is not empty' if length $out;
    push @wrong, 'not one line' unless $err =~ /\Alyrebird: [^\n]+\n\z/;
    push @wrong, "line does not match $pattern" unless $err =~ $pattern;
    push @wrong, 'line is too long' if length $err > 600;
    push @wrong, 'files were changed' if digests() ne $before;
    ok(!@wrong, $name) or diag(join('; ', @wrong), "\n$emulator @args\n", substr($err, 0, 1000), substr($out, 0, 500));
}

# good(name, pattern of standard output, arguments...): leaves with status 0 by itself.
sub good {
    my ($name, $pattern, @args) = @_;
    my ($status, $out, $err) = run(@args);
    ok(defined $status && $status == 0 && $out =~ $pattern && $err eq '', $name)
        or diag("$emulator @args\nstatus ", $status // 'none', "\n", substr($out, 0, 500), substr($err, 0, 500));
}

# --- files ---

sub bzimage { # a header as Linux has it, with so much behind it as SIZE says; BODY as declared
    my (%o) = @_;
    my $image = "\0" x 0x10000;
    substr($image, 0x1f1, 1) = chr($o{setup} // 4);
    substr($image, 0x1f4, 4) = pack 'V', ($o{declared} // 0) / 16;
    substr($image, 0x1fe, 2) = "\x55\xaa";
    substr($image, 0x202, 4) = 'HdrS';
    substr($image, 0x206, 2) = pack 'v', $o{protocol} // 0x20f;
    substr($image, 0x211, 1) = "\x01";
    substr($image, 0x22c, 4) = pack 'V', 0x7fffffff;
    substr($image, 0x238, 4) = pack 'V', 255;
    return substr $image, 0, $o{size} // length $image;
}
sub elf { # 32-bit, one segment
    my (%o) = @_;
    my $count = $o{count} // 1;
    my $header = "\x7fELF" . pack('C12 v2 V5 v6', $o{class} // 1, $o{data} // 1, 1, (0) x 9, 2, 3, 1, 0x100000, $o{table} // 52, 0, 0,
        52, $o{entry_size} // 32, $count, 0, 0, 0);
    my $segment = pack 'V8', 1, $o{offset} // 0x1000, $o{physical} // 0x100000, $o{physical} // 0x100000, $o{file_size} // 0x1000,
        $o{memory_size} // 0x1000, 7, 0x1000;
    my $multiboot = $o{multiboot} // 1 ? pack 'V3', 0x1badb002, $o{flags} // 0, -(0x1badb002 + ($o{flags} // 0)) & 0xffffffff : '';
    $multiboot .= pack 'V5', @{ $o{addresses} } if $o{addresses};
    my $image = $header . $segment . $multiboot;
    $image .= "\0" x (0x2000 - length $image);
    return substr $image, 0, $o{size} // length $image;
}

my $disk = make_file('disk.img', "\0" x 65536);
my $empty = make_file('empty', '');
my $garbage = make_file('garbage', 'This is no kernel. ' x 500);
my $missing = "$dir/missing";
mkdir my $folder = "$dir/folder";
my $read_only = make_file('readonly.img', "\0" x 65536);
chmod 0444, $read_only;
my $kernel = make_file('kernel', bzimage());
my $busy = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', Proto => 'tcp') or die "no socket: $!";
my $port = $busy->sockport;

# --- what leaves with status 0 ---
good('-version', qr/\ALyrebird [\d.]+\n\z/, '-version');
good('--version', qr/\ALyrebird /, '--version');
good('-help', qr/Usage: .*-drive SPEC/s, '-help');
good('-h', qr/Usage: /, '-h');
good('-device help', qr/^name "virtio-blk-pci"/m, '-device', 'help');
good('-device ?', qr/^name "pc-testdev"/m, '-device', '?');
good('-d help', qr/^guest_errors/m, '-d', 'help');
good('-machine help', qr/^pc /m, '-machine', 'help');
good('-cpu help', qr/^\s*max\b/m, '-cpu', 'help');

# --- options ---
bad('unknown option', qr/'-frobnicate'/, '-frobnicate');
bad('unknown option, two dashes', qr/'--frobnicate'/, '--frobnicate');
bad("unknown option behind known ones", qr/'-frob'/, @quiet, '-m', '64', '-frob');
bad("$_ without argument", qr/$_: \S+ is missing/, $_)
    for qw(-m -smp -cpu -drive -device -netdev -nic -object -kernel -initrd -append -bios -L -hda -cdrom -fda -boot -serial -monitor -d -D -rtc -accel -machine -display -vga -uuid -option-rom);
bad("-m $_", qr/-m \Q$_\E: /, '-m', $_)
    for '900G', '0', '1K', '-5', 'x', '12Q', '99999999999999999999', '18446744073709551615T', '64MM', '0x', '1.5G', '';
bad('-m: unknown property', qr/-m: unknown property 'colour'/, '-m', '64,colour=red');
bad("-smp $_", qr/-smp \Q$_\E: /, '-smp', $_) for '0', '65', '-1', 'x', '99999999999999999999', '8,sockets=8,cores=9';
bad('-smp: unknown property', qr/-smp: unknown property 'wheels'/, '-smp', '2,wheels=4');
bad('-smp cores=x', qr/cores=x/, '-smp', 'cores=x');
bad('-cpu unknown', qr/-cpu z80:.*z80/, @quiet, '-cpu', 'z80');
bad('-cpu unknown feature', qr/-cpu max,\+warp: .*warp/, @quiet, '-cpu', 'max,+warp');
bad('-cpu no local APIC, two processors', qr/-smp 2: .*486/, @quiet, '-cpu', '486', '-smp', '2');
bad('-accel unknown', qr/-accel kvm: /, '-accel', 'kvm');
bad('-accel: unknown property', qr/-accel: unknown property 'speed'/, '-accel', 'interp,speed=11');
bad('-machine unknown', qr/-machine q36: /, '-machine', 'q36');
bad('-machine hpet=maybe', qr/-machine hpet=maybe: /, '-machine', 'pc,hpet=maybe');
bad('-machine: unknown property', qr/-machine: unknown property 'wings'/, '-machine', 'pc,wings=2');
bad('-boot unknown letter', qr/-boot .*'z'/, '-boot', 'z');
bad('-boot once=, unknown letter', qr/-boot once=.*'z'/, '-boot', 'once=z');
bad('-boot menu=perhaps', qr/-boot menu=perhaps/, '-boot', 'menu=perhaps');
bad('-rtc base', qr/-rtc base=yesterday/, '-rtc', 'base=yesterday');
bad('-rtc impossible date', qr/-rtc base=2006-99-99/, '-rtc', 'base=2006-99-99T00:00:00');
bad('-uuid', qr/-uuid 1234: /, '-uuid', '1234');
bad('-uuid with letters that are no digits', qr/-uuid .*: not a UUID/, '-uuid', 'zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz');
bad('-display unknown', qr/-display curses: /, '-display', 'curses');
bad('-vga unknown', qr/-vga cirrus: /, '-vga', 'cirrus');
bad('-action unknown value', qr/-action reboot=dance/, '-action', 'reboot=dance');
bad('-action unknown property', qr/-action: unknown property 'lunch'/, '-action', 'lunch=now');
bad('-chardev without a name', qr/-chardev null: id= is missing/, @quiet, '-chardev', 'null');
bad('-chardev of a kind that is not there', qr/-chardev udp,id=x: udp is not supported/, @quiet, '-chardev', 'udp,id=x');
bad('-chardev socket to nowhere', qr/-chardev socket,id=x: path= or port= is missing/, @quiet, '-chardev', 'socket,id=x');
bad('-chardev: a name twice', qr/-chardev null,id=a: id=a is taken/, @quiet, '-chardev', 'null,id=a', '-chardev', 'null,id=a');
bad('-mon of nothing', qr/no -chardev with id=nothing/, @quiet, '-mon', 'chardev=nothing');
bad('-mon mode=talk', qr/-mon mode=talk: /, @quiet, '-chardev', 'null,id=a', '-mon', 'chardev=a,mode=talk');
bad('-qmp, a bad address', qr/-qmp tcp:x: .*(HOST:PORT|jansson)/, @quiet, '-qmp', 'tcp:x');
bad('-dfilter', qr/-dfilter: x: /, '-dfilter', 'x');
bad('-d unknown channel', qr/-d everything: /, '-d', 'everything');
bad('-D into a missing folder', qr/-D \Q$dir\E\/no\/log: /, @quiet, '-D', "$dir/no/log");
bad('-initrd without -kernel', qr/-initrd needs -kernel/, '-initrd', $disk);
bad('-append without -kernel', qr/-append needs -kernel/, '-append', 'x');
bad('too many properties', qr/too many properties/, '-drive', join ',', map { "p$_=1" } 1 .. 60);
bad('an argument of 100,000 characters', qr/unknown|too long|File name/, '-drive', 'file=' . 'x' x 100000);
bad('an option of 100,000 characters', qr/unknown option/, '-' . 'x' x 100000);
bad('a line feed in a name', qr/x\?y: No such file/, '-hda', "$dir/x\ny");

# --- kernel, initrd ---
bad('-kernel missing', qr/could not open kernel \Q$missing\E: No such file/, @quiet, '-kernel', $missing);
bad('-kernel empty', qr/kernel \Q$empty\E: .*empty/, @quiet, '-kernel', $empty);
bad('-kernel garbage', qr/kernel \Q$garbage\E: neither/, @quiet, '-kernel', $garbage);
bad('-kernel folder', qr/kernel \Q$folder\E: /, @quiet, '-kernel', $folder);
for (['header cut off', {size => 0x210}, qr/neither|truncated/], ['set-up code cut off', {size => 0x400}, qr/truncated/],
     ['kernel cut off', {declared => 0x400000}, qr/truncated/], ['protocol too old', {protocol => 0x201}, qr/protocol/]) {
    my ($name, $how, $pattern) = @$_;
    my $file = make_file('bad', bzimage(%$how));
    bad("bzImage: $name", qr/kernel \Q$file\E: .*(?:$pattern)/, @quiet, '-kernel', $file);
}
for (['cut off in the header', {size => 40}, qr/neither|truncated|not a/], ['cut off in the segment', {size => 0x1800}, qr/truncated/],
     ['segment beyond RAM', {physical => 0x40000000}, qr/RAM/], ['segment wraps around', {physical => 0xffffff00}, qr/RAM/],
     ['big-endian', {data => 2}, qr/little-endian/], ['headers beyond the end', {table => 0xfffffff0}, qr/truncated/],
     ['65535 headers', {count => 65535}, qr/truncated/], ['headers of 0 bytes', {entry_size => 0}, qr/truncated/],
     ['larger in the file than in memory', {file_size => 0x1000, memory_size => 1}, qr/./],
     ['neither multiboot nor PVH', {multiboot => 0}, qr/neither/], ['wants a video mode', {flags => 4}, qr/video mode/],
     ['load addresses outside the file', {flags => 0x10000, addresses => [0x200000, 0x100000, 0, 0, 0x100000]}, qr/outside/],
     ['load addresses beyond RAM', {flags => 0x10000, addresses => [0x40000054, 0x40000000, 0, 0, 0x40000000]}, qr/RAM/]) {
    my ($name, $how, $pattern) = @$_;
    my $file = make_file('bad', elf(%$how));
    bad("ELF: $name", qr/kernel \Q$file\E: .*(?:$pattern)/, @quiet, '-kernel', $file);
}
unlink "$dir/bad";
bad('-initrd missing', qr/initrd \Q$missing\E: No such file/, @quiet, '-kernel', $kernel, '-initrd', $missing);
bad('-initrd empty', qr/initrd \Q$empty\E: .*empty/, @quiet, '-kernel', $kernel, '-initrd', $empty);
bad('-initrd folder', qr/initrd \Q$folder\E: /, @quiet, '-kernel', $kernel, '-initrd', $folder);
my $large = "$dir/large";
open my $f, '>', $large or die; truncate $f, 40 << 20; close $f;
bad('-initrd larger than RAM', qr/initrd \Q$large\E: .*(?:fit|most)/, @quiet, '-m', '32', '-kernel', $kernel, '-initrd', $large);
bad('-append too long', qr/-append: /, @quiet, '-kernel', $kernel, '-append', 'x' x 5000);
my $multiboot = make_file('multiboot', elf());
bad('multiboot module missing', qr/module \Q$missing\E: No such file/, @quiet, '-kernel', $multiboot, '-initrd', "$disk first,$missing second");
bad('multiboot: 33 modules', qr/-initrd: .*32/, @quiet, '-kernel', $multiboot, '-initrd', join ',', ($disk) x 33);
bad('multiboot: -append too long', qr/-append: /, @quiet, '-kernel', $multiboot, '-append', 'x' x 60000);
bad('kernel in too little RAM', qr/RAM/, @quiet, '-m', '1', '-kernel', $multiboot);

# --- firmware ---
bad('-bios missing', qr/firmware \Q$missing\E: not found/, @quiet, '-bios', $missing);
bad('-bios empty', qr/firmware \Q$empty\E: .*empty/, @quiet, '-bios', $empty);
bad('-bios folder', qr/firmware \Q$folder\E: /, @quiet, '-bios', $folder);
bad('-bios not a multiple of 64 KiB', qr/firmware \Q$garbage\E: .*multiple/, @quiet, '-bios', $garbage);
bad('-bios too large', qr/firmware \Q$large\E: .*most/, @quiet, '-bios', $large);
bad('-option-rom missing', qr/\Q$missing\E: not found/, @quiet, '-option-rom', $missing);
bad('-option-rom empty', qr/\Q$empty\E: .*empty/, @quiet, '-option-rom', $empty);
my $vars = make_file('vars', 'x' x 1000);
bad('-pflash of a strange size', qr/\Q$vars\E: .*flash/, @quiet, '-pflash', $vars);
bad('-pflash empty', qr/\Q$empty\E: .*empty/, @quiet, '-pflash', $empty);
bad('-pflash missing', qr/\Q$missing\E: No such file/, @quiet, '-pflash', $missing);

# --- disks ---
bad("$_ missing", qr/\Q$missing\E: No such file/, @quiet, $_, $missing) for qw(-hda -hdb -hdc -hdd -cdrom -fda -fdb);
bad('disk image missing, without option', qr/\Q$missing\E: No such file/, @quiet, $missing);
bad('disk image empty', qr/\Q$empty\E: .*empty/, @quiet, '-hda', $empty);
bad('disk image is a folder', qr/\Q$folder\E: .*directory/i, @quiet, '-hda', $folder);
bad('CD-ROM image is a folder', qr/\Q$folder\E: .*directory/i, @quiet, '-cdrom', $folder);
for (['qcow2', "QFI\xfb\0\0\0\3"], ['VMDK', 'KDMV'], ['VHDX', 'vhdxfile'], ['VDI', "\0" x 0x40 . "\x7f\x10\xda\xbe"], ['QED', "QED\0"]) {
    my ($format, $magic) = @$_;
    my $file = make_file('foreign', $magic . "\0" x (65536 - length $magic));
    bad("$format image without format=", qr/\Q$file\E: $format/, @quiet, '-hda', $file);
    bad("$format image as CD-ROM", qr/\Q$file\E: $format/, @quiet, '-cdrom', $file);
}
unlink "$dir/foreign";
bad('format= unknown', qr/'clay'/, @quiet, '-drive', "file=$disk,format=clay");
SKIP: {
    # Root may write everything; somebody else may not.
    my $somebody = $> ? undef : getpwnam 'nobody';
    chmod 0755, $dir;
    if ($somebody) {
        my $can = system($^X, '-MPOSIX', '-e', 'POSIX::setuid(shift); exit !(-x shift)', $somebody, $emulator) == 0;
        skip 'the emulator is where only root may run it', 1 unless $can;
    }
    local $user = $somebody;
    bad('read-only file, opened for writing', qr/\Q$read_only\E: Permission denied/, @quiet, '-hda', $read_only);
}
bad('one image twice, both writing', qr/\Q$disk\E: .*in use/, @quiet, '-hda', $disk, '-hdb', $disk);
bad('two disks in one place', qr/\Q$read_only\E: .*taken/, @quiet, '-drive', "file=$disk,index=0", '-drive', "file=$read_only,index=0,readonly=on");
bad('-hdc and -cdrom', qr/taken/, @quiet, '-hdc', $disk, '-cdrom', $read_only);
bad('five IDE disks', qr/IDE/, @quiet, map { ('-drive', "file=$read_only,if=ide,readonly=on") } 1 .. 5);
bad('IDE index 4', qr/\Q$disk\E: IDE index 4/, @quiet, '-drive', "file=$disk,if=ide,index=4");
bad('three floppies', qr/floppy/, @quiet, map { ('-drive', "file=$read_only,if=floppy,readonly=on") } 1 .. 3);
bad('two floppies in one place', qr/floppy.*taken/, @quiet, '-fda', $disk, '-fda', $read_only);
bad('33 drives', qr/32 drives/, @quiet, map { ('-drive', "file=$read_only,if=none,readonly=on") } 1 .. 33);
bad('-drive without file', qr/-drive .*file=/, @quiet, '-drive', 'if=ide');
bad('-drive: unknown property', qr/-drive: unknown property 'flavour'/, '-drive', "file=$disk,flavour=mint");
bad("-drive $_", qr/-drive \Q$_\E: /, '-drive', "file=$disk,$_")
    for qw(if=scsi cache=maybe werror=cry rerror=enospc media=tape readonly=never snapshot=never index=-1 index=x index=99 bus=7 unit=9);
bad('two drives of one id', qr/id=one: /, @quiet, '-drive', "file=$disk,if=none,id=one", '-drive', "file=$read_only,if=none,id=one,readonly=on");
bad('serial= too long', qr/serial=/, @quiet, '-drive', "file=$disk,serial=" . 'x' x 300);
{
    local $ENV{TMPDIR} = "$dir/no-such-folder";
    bad('-snapshot without a folder for it', qr/\Q$dir\E\/no-such-folder/, @quiet, '-snapshot', '-hda', $disk);
}

# --- devices ---
bad('-global: no value', qr/-global e1000\.mac: /, @quiet, '-global', 'e1000.mac');
bad('-global: no property', qr/-global e1000=5: /, @quiet, '-global', 'e1000=5');
bad('-global: unknown property', qr/-global e1000\.colour=red: .*'colour'/, @quiet, '-global', 'e1000.colour=red');
bad('-global: bad value', qr/-global pvpanic\.ioport=sofa: .*'sofa'/, @quiet, '-global', 'pvpanic.ioport=sofa');
bad('-global: it counts', qr/pvpanic: no port 0x20000/, @quiet, '-global', 'pvpanic.ioport=0x20000', '-device', 'pvpanic');
bad('-device unknown', qr/-device flux-capacitor: /, @quiet, '-device', 'flux-capacitor');
bad('-device nameless', qr/-device /, @quiet, '-device', '');
bad('-device not for users', qr/-device i8259: /, @quiet, '-device', 'i8259');
bad('-device: unknown property', qr/virtio-rng-pci.*'colour'/, @quiet, '-device', 'virtio-rng-pci,colour=red');
bad('-device: no such drive', qr/virtio-blk-pci: .*'nowhere'/, @quiet, '-device', 'virtio-blk-pci,drive=nowhere');
bad('-device: a disk without drive=', qr/virtio-blk-pci: .*drive/, @quiet, '-device', 'virtio-blk-pci');
bad('-device: no such netdev', qr/e1000: .*'nowhere'/, @quiet, '-device', 'e1000,netdev=nowhere');
bad('-device: bad mac', qr/e1000: .*mac/, @quiet, '-device', 'e1000,mac=gg:00:00:00:00:00');
bad('-device: bad addr', qr/e1000: .*addr/, @quiet, '-device', 'e1000,addr=77');
bad('-device: taken addr', qr/slot|addr|taken/, @quiet, '-device', 'virtio-rng-pci,addr=9', '-device', 'virtio-rng-pci,addr=9');
bad('-device: bad number', qr/isa-debug-exit: .*iobase/, @quiet, '-device', 'isa-debug-exit,iobase=sofa');
bad("-device: another one's drive", qr/virtio-blk-pci: drive 'one'/, @quiet, '-drive', "file=$disk,if=ide,id=one", '-device', 'virtio-blk-pci,drive=one');
bad('-device: one drive for two disks', qr/virtio-blk-pci: drive 'one'/, @quiet, '-drive', "file=$disk,if=none,id=one", map { ('-device', 'virtio-blk-pci,drive=one') } 1 .. 2);
bad('-device: more than 32 slots', qr/./, @quiet, map { ('-device', 'virtio-rng-pci') } 1 .. 40);
bad('65 devices', qr/-device: at most 64/, map { ('-device', 'virtio-rng-pci') } 1 .. 65);

# --- network ---
bad('-nic unknown', qr/-nic: 'carrier-pigeon'/, @quiet, '-nic', 'carrier-pigeon');
bad('-nic unknown model', qr/-nic .*ne2000/, @quiet, '-nic', 'user,model=ne2000');
bad('-nic unknown property', qr/-nic: unknown option 'colour'/, @quiet, '-nic', 'user,colour=red');
bad('-nic bad mac', qr/-nic: mac=x/, @quiet, '-nic', 'user,mac=x');
bad('-nic multicast mac', qr/-nic: mac=01:/, @quiet, '-nic', 'user,mac=01:00:00:00:00:00');
bad('-netdev unknown', qr/-netdev: .*'tap'/, @quiet, '-netdev', 'tap,id=n');
bad('-netdev without id', qr/-netdev: id= is missing/, @quiet, '-netdev', 'user');
bad('-netdev id twice', qr/-netdev: id=n is taken/, @quiet, '-netdev', 'user,id=n', '-netdev', 'user,id=n');
bad('-netdev unknown property', qr/-netdev: unknown option 'colour'/, @quiet, '-netdev', 'user,id=n,colour=red');
bad("hostfwd=$_", qr/hostfwd.*\Q$_\E/, @quiet, '-nic', "user,hostfwd=$_")
    for 'x', 'tcp::', 'tcp::99999-:22', 'tcp::1x-:22', 'sctp::2222-:22', 'tcp:500.1.1.1:2222-:22', 'tcp::2222', 'tcp::2222-:0', 'tcp::2222-:70000';
bad('hostfwd: a port in use', qr/hostfwd.*$port/, @quiet, '-nic', "user,hostfwd=tcp:127.0.0.1:$port-:22");
bad('net= nonsense', qr/net=/, @quiet, '-nic', 'user,net=10.0.2.0/99');
bad('restrict= nonsense', qr/restrict=/, @quiet, '-nic', 'user,restrict=sometimes');
bad('-object unknown', qr/-object secret/, @quiet, '-object', 'secret,id=x');
bad('-object filter-dump: no such netdev', qr/filter-dump: no netdev 'n'/, @quiet, '-object', "filter-dump,id=d,netdev=n,file=$dir/dump");
bad('-object filter-dump: folder missing', qr/filter-dump.*\Q$dir\E\/no\/dump/, @quiet, '-netdev', 'user,id=n', '-object', "filter-dump,id=d,netdev=n,file=$dir/no/dump");

# --- character devices ---
my @plain = qw(-display none);
bad('-serial unknown', qr/-serial carrier: /, @plain, '-monitor', 'none', '-serial', 'carrier');
bad('-serial file: in a missing folder', qr/-serial .*\Q$dir\E\/no\/x: /, @plain, '-monitor', 'none', '-serial', "file:$dir/no/x");
bad('-serial tcp: nobody there', qr/-serial tcp:.*refused/, @plain, '-monitor', 'none', '-serial', 'tcp:127.0.0.1:1');
bad('-serial tcp: no port', qr/-serial tcp:localhost: /, @plain, '-monitor', 'none', '-serial', 'tcp:localhost');
bad("-gdb, $_: a port that is none", qr/-gdb \Q$_\E: .*port '/, @quiet, '-gdb', $_) for 'tcp::99999', 'tcp::65536', 'tcp::-1', 'tcp::', 'tcp::1234x', 'tcp::0x50';
bad("$_->[0] $_->[1]: a port that is none", qr/\Q$_->[1]\E: .*port '/, @quiet, @$_) for ['-serial', 'tcp::99999,server,nowait'],
    ['-monitor', 'tcp:localhost:70000,server=on,wait=off'], ['-chardev', 'socket,id=c,host=localhost,port=99999,server=on,wait=off'],
    ['-parallel', 'tcp:127.0.0.1:4294967376'], ['-serial', 'tcp:127.0.0.1:0'];
bad("-serial $_: words behind the address", qr/-serial .*expected/, @plain, '-monitor', 'none', '-serial', $_) for "unix:$dir/s,sever", "unix:$dir/s,server=maybe",
    'tcp:127.0.0.1:1,server=on,wait=', 'tcp:127.0.0.1:1,';
bad('-serial tcp: a port in use', qr/-serial tcp:.*in use/, @plain, '-monitor', 'none', '-serial', "tcp:127.0.0.1:$port,server,nowait");
bad('-serial unix: in a missing folder', qr/-serial unix:/, @plain, '-monitor', 'none', '-serial', "unix:$dir/no/socket,server,nowait");
bad('-serial unix: name too long', qr/-serial unix:.*long|length/, @plain, '-monitor', 'none', '-serial', 'unix:' . 'x' x 200 . ',server,nowait');
bad('-serial unix: a disk image in the way', qr/-serial unix:\Q$disk\E/, @plain, '-monitor', 'none', '-serial', "unix:$disk,server,nowait");
bad('five serial ports', qr/-serial: at most 4/, @plain, map { ('-serial', 'null') } 1 .. 5);
bad('-monitor unknown', qr/-monitor loudspeaker/, @plain, '-serial', 'null', '-monitor', 'loudspeaker');
bad('-parallel unknown', qr/-parallel x/, @quiet, '-parallel', 'x');
bad('-debugcon unknown', qr/-debugcon x/, @quiet, '-debugcon', 'x');
bad('standard input for two', qr/stdio/, @plain, '-serial', 'stdio', '-monitor', 'stdio');

done_testing;
