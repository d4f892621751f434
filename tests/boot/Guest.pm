# A guest under test: an emulator process, its serial port and its monitor, driven by what it
# prints.
package Guest;
use strict;
use warnings;
use IO::Select;
use IO::Socket::UNIX;
use POSIX ();
use Time::HiRes qw(time sleep);
use File::Temp qw(tempdir);

our $emulator = $ENV{LYREBIRD} || './lyrebird';
# Times to wait, which only say when to give up, are for a host that is not much slower than a usual one: times SLOW.
our $slow = $ENV{SLOW} || 1;

# The engines this host has; "tcg" is its best one.
sub engines { return (POSIX::uname())[4] eq 'x86_64' ? ('jit', 'interp') : 'interp' }

# Guest->start(args => [...], monitor => 1): serial port on our pipes.
sub start {
    my ($class, %o) = @_;
    my $self = bless { text => '', mark => 0, dir => tempdir(CLEANUP => 1), began => time }, $class;
    my @command = ($o{emulator} || $emulator, @{ $o{args} });
    push @command, '-serial', 'stdio' unless $o{no_serial};
    push @command, '-display', 'none'
        unless grep { $_ eq '-nographic' || $_ eq '-display' } @command;
    if ($o{monitor}) {
        $self->{monitor_path} = "$self->{dir}/monitor";
        push @command, '-monitor', "unix:$self->{monitor_path},server,nowait";
    }
    pipe(my $in_r, my $in_w) or die;
    pipe(my $out_r, my $out_w) or die;
    pipe(my $err_r, my $err_w) or die;
    my $pid = fork();
    die "fork: $!" unless defined $pid;
    if (!$pid) {
        POSIX::dup2(fileno $in_r, 0); POSIX::dup2(fileno $out_w, 1); POSIX::dup2(fileno $err_w, 2);
        close $_ for $in_r, $in_w, $out_r, $out_w, $err_r, $err_w;
        exec @command or POSIX::_exit(127);
    }
    close $_ for $in_r, $out_w, $err_w;
    $in_w->autoflush(1);
    @$self{qw(pid in out err errors)} = ($pid, $in_w, $out_r, $err_r, '');
    return $self;
}

sub _read_some {
    my ($self, $timeout) = @_;
    my $select = IO::Select->new(grep { defined } $self->{out}, $self->{err});
    return 0 unless $select->count;
    for my $handle ($select->can_read($timeout)) {
        my $n = sysread $handle, my $bytes, 65536;
        if ($handle == ($self->{out} || 0)) {
            if ($n) { $self->{text} .= $bytes } else { $self->{out} = undef }
        } else {
            if ($n) { $self->{errors} .= $bytes } else { $self->{err} = undef }
        }
    }
    return 1;
}

# Waits until PATTERN comes behind what was matched last. True when it did.
sub expect {
    my ($self, $pattern, $timeout) = @_;
    my $end = time + $slow * $timeout;
    for (;;) {
        pos($self->{text}) = $self->{mark};
        if ($self->{text} =~ /$pattern/g) {
            $self->{mark} = pos $self->{text};
            return 1;
        }
        my $left = $end - time;
        return 0 if $left <= 0 || !$self->{out};
        $self->_read_some($left < 1 ? $left : 1);
    }
}

sub send { my ($self, $text) = @_; syswrite $self->{in}, $text; }

# A shell command in the guest; its output, or undef on time-out.
sub shell {
    my ($self, $command, $timeout) = @_;
    my $tag = 'T' . ++$self->{tags};
    # Quoted apart, so that the echo of what we type is not taken for the answer.
    $self->send("echo 'B'$tag; $command; echo 'E'$tag:\$?\n");
    return undef unless $self->expect(qr/B$tag\r*\n(.*?)E$tag:(\d+)\r*\n/s, $timeout || 60);
    substr($self->{text}, 0, $self->{mark}) =~ /B$tag\r*\n(.*?)E$tag:(\d+)\r*\n\z/s;
    my ($output, $status) = ($1, $2);
    $self->{status} = $status;
    $output =~ s/\r//g;
    chomp $output;
    return $output;
}

sub monitor {
    my ($self, $command) = @_;
    unless ($self->{monitor}) {
        for (1 .. 100 * $slow) {
            $self->{monitor} = IO::Socket::UNIX->new(Peer => $self->{monitor_path}) and last;
            sleep 0.1;
        }
        die 'no monitor' unless $self->{monitor};
        my ($greeting, $until) = ('', time + 20 * $slow);
        while (time < $until && $greeting !~ /\(lyrebird\) \z/) {
            next unless IO::Select->new($self->{monitor})->can_read(1);
            sysread $self->{monitor}, $greeting, 1000, length $greeting or last;
        }
    }
    my $socket = $self->{monitor};
    syswrite $socket, "$command\n";
    my ($answer, $select) = ('', IO::Select->new($socket));
    my $end = time + 20 * $slow;
    while (time < $end && $answer !~ /\(lyrebird\) \z/) {
        next unless $select->can_read(1);
        sysread $socket, my $bytes, 65536 or last;
        $answer .= $bytes;
    }
    $answer =~ s/\r//g;
    $answer =~ s/\A[^\n]*\n//;
    $answer =~ s/\(lyrebird\) \z//;
    return $answer;
}

# Waits until the text screen shows PATTERN.
sub screen {
    my ($self, $pattern, $timeout) = @_;
    my $end = time + $slow * $timeout;
    while (time < $end) {
        $self->{screen} = $self->monitor('screentext');
        return 1 if $self->{screen} =~ $pattern;
        $self->_read_some(0.5);
    }
    return 0;
}

sub keys { my ($self, @keys) = @_; for (@keys) { $self->monitor("sendkey $_"); sleep 0.15 } }

# Types TEXT on the guest's keyboard.
sub type {
    my ($self, $text) = @_;
    my %name = (' ' => 'spc', '-' => 'minus', '=' => 'equal', '.' => 'dot', '/' => 'slash',
        "\n" => 'ret', ',' => 'comma',
        ':' => 'shift-semicolon', '_' => 'shift-minus', "\t" => 'tab', ';' => 'semicolon');
    $self->keys(map { $name{$_} || ($_ =~ /[A-Z]/ ? 'shift-' . lc : $_) } split //, $text);
}

# Waits for the emulator to leave; its exit status, or undef when it had to be killed.
sub wait_exit {
    my ($self, $timeout) = @_;
    my $end = time + $slow * $timeout;
    while (time < $end) {
        my $done = waitpid $self->{pid}, POSIX::WNOHANG();
        if ($done == $self->{pid}) {
            my $status = $?;
            while (($self->{out} || $self->{err}) && $self->_read_some(0.2)) { last unless IO::Select->new(grep { defined } $self->{out}, $self->{err})->can_read(0.1) }
            $self->{pid} = 0;
            return $status & 127 ? 128 + ($status & 127) : $status >> 8;
        }
        $self->_read_some(0.2);
    }
    return undef;
}

sub stop {
    my ($self) = @_;
    return unless $self->{pid};
    kill 'TERM', $self->{pid};
    return if defined $self->wait_exit(5);
    kill 'KILL', $self->{pid};
    waitpid $self->{pid}, 0;
    $self->{pid} = 0;
}

sub seconds { my ($self) = @_; return time - $self->{began} }
sub tail { my ($self) = @_; return join '', map { "# $_\n" } split /\r?\n/, substr($self->{text}, -2000) . "\n" . substr($self->{errors}, -500) }

sub DESTROY { local $?; $_[0]->stop }

1;
