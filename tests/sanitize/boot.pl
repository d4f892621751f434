# Started by boot.sh.
# Builds the emulator with each sanitizer, out of tree, and boots Debian's cloud kernel on it to a
# shell, with one processor and with several: not one report. SANITIZE=address,undefined, undefined
# or thread picks one build; SANITIZE_CFLAGS as wanted.
use strict;
use warnings;
use Guest;
use Debian;
use File::Temp qw(tempdir);
use Test::More;

my $source = $ENV{SOURCE} || '.';
my ($kernel, $initrd) = Debian::kernel('amd64', '', 'linux-image-cloud-amd64');
plan skip_all => 'the distribution\'s kernel cannot be fetched here' unless $kernel;

# The translator is a part of the build without the two others.
my %builds = ('address,undefined' => [['--enable-asan', '--enable-ubsan'], 1, 2],
    undefined => [['--enable-ubsan'], 2],
    thread => [['--enable-tsan'], 2]);
# Under ThreadSanitizer the guest is some fifty times slower than its clock: half a minute of work
# without a pause for breath is a lockup to its watchdogs, which are told to look away; and the work
# that only shows itself is left out.
my $patience = 'nosoftlockup rcupdate.rcu_cpu_stall_suppress=1 tsc=reliable cryptomgr.notests mitigations=off';
my $jobs = $ENV{JOBS} || 2;
my $flags = $ENV{SANITIZE_CFLAGS} || '-O1 -g';

sub build {
    my ($name, @options) = @_;
    my $folder = $ENV{SANITIZE_KEEP} ? "$ENV{SANITIZE_KEEP}/$name" : tempdir(CLEANUP => 1);
    mkdir $folder;
    my $log = qx(cd '$folder' && { '$source/configure' @options CFLAGS='$flags' && make -j $jobs lyrebird; } 2>&1);
    return "$folder/lyrebird" if !$?;
    diag substr $log, -2000;
    return undef;
}

for my $name ($ENV{SANITIZE} || sort keys %builds) {
    my ($options, @processors) = @{ $builds{$name} };
    my $emulator = build($name, @$options);
    ok($emulator, "$name: builds") or next;
    for my $n (@processors) {
        my $reports = tempdir(CLEANUP => 1);
        # What the process still holds when it ends is the system's to take back.
        local $ENV{ASAN_OPTIONS} = "detect_leaks=0:log_path=$reports/r";
        local $ENV{UBSAN_OPTIONS} = "print_stacktrace=1:log_path=$reports/r";
        local $ENV{TSAN_OPTIONS} = "history_size=4:log_path=$reports/r";
        my $g = Guest->start(emulator => $emulator, args => ['-m', '256', '-smp', $n, '-kernel',
            $kernel, '-initrd', $initrd,
            '-nic', 'user,model=virtio-net-pci', '-append', "console=ttyS0 quiet $patience"]);
        my $up = ok($g->expect(qr/lyrebird:[^\n]*# /, 3000), "$name -smp $n: shell")
            or diag $g->tail;
        if ($up) {
            is($g->shell('nproc', 300), $n, "$name -smp $n: processors");
            $g->shell('for i in 1 2 3 4; do for j in 1 2 3 4; do cat /proc/cpuinfo | md5sum; done >/dev/null & done; wait', 1800);
            is($g->{status}, 0, "$name -smp $n: many processes");
            $g->send("poweroff -f\n");
            diag sprintf '%s -smp %d: %d s', $name, $n, $g->seconds;
            is($g->wait_exit(300), 0, "$name -smp $n: power-off, exit status 0");
        }
        $g->stop;
        my $text = $g->{errors} . join '', map { open my $f, '<', $_; local $/; <$f> } glob "$reports/*";
        my @found = $text =~ /^.*(?:SUMMARY: |runtime error: |WARNING: ThreadSanitizer|ERROR: AddressSanitizer).*$/mg;
        is(scalar @found, 0, "$name -smp $n: no report") or diag substr $text, 0, 6000;
    }
}
done_testing;
