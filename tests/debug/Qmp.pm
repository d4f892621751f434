# A small client of the control protocol.
package Qmp;
use strict;
use warnings;
use IO::Select;
use IO::Socket::UNIX;
use JSON::PP;
use Time::HiRes qw(time sleep);

our $json = JSON::PP->new->utf8->allow_nonref;

# Qmp->connect(path): waits for the greeting.
sub connect {
    my ($class, $path) = @_;
    my $self = bless { in => '', events => [] }, $class;
    for (1 .. 100 * $Guest::slow) { $self->{socket} = IO::Socket::UNIX->new(Peer => $path) and last; sleep 0.1 }
    die "$path: nobody there" unless $self->{socket};
    $self->{greeting} = $self->next_message(20);
    return $self;
}

sub negotiated { my $self = Qmp->connect($_[1]); $self->run('qmp_capabilities'); return $self }

# The next message that has arrived within SECONDS, or undef.
sub next_message {
    my ($self, $seconds) = @_;
    my $end = time + $seconds * $Guest::slow;
    for (;;) {
        my $value = eval { $self->_take };
        return $value if defined $value;
        my $left = $end - time;
        return undef if $left <= 0 || $self->{closed};
        next unless IO::Select->new($self->{socket})->can_read($left);
        my $n = sysread $self->{socket}, $self->{in}, 65536, length $self->{in};
        $self->{closed} = 1 unless $n;
    }
}

sub _take {
    my ($self) = @_;
    return undef unless $self->{in} =~ /\S/;
    my ($value, $length) = JSON::PP->new->utf8->decode_prefix($self->{in});
    substr($self->{in}, 0, $length) = '';
    return $value;
}

sub send { my ($self, $text) = @_; syswrite $self->{socket}, $text }

# The next answer; events that come before it are kept.
sub answer {
    my ($self, $seconds) = @_;
    while (defined(my $message = $self->next_message($seconds || 30))) {
        return $message unless exists $message->{event};
        push @{ $self->{events} }, $message;
    }
    return undef;
}

sub ask { # the whole answer
    my ($self, $command, $arguments, $id) = @_;
    my %message = (execute => $command);
    $message{arguments} = $arguments if $arguments;
    $message{id} = $id if defined $id;
    $self->send($json->encode(\%message) . "\n");
    return $self->answer;
}

sub run { my $answer = ask(@_); return $answer ? $answer->{return} : undef }
sub failure { my $answer = ask(@_); return $answer && $answer->{error} ? "$answer->{error}{class}: $answer->{error}{desc}" : 'no error' }

# Waits for an event of this NAME; undef when it does not come.
sub event {
    my ($self, $name, $seconds) = @_;
    my $end = time + ($seconds || 30);
    for (;;) {
        while (my $event = shift @{ $self->{events} }) { return $event if $event->{event} eq $name }
        my $left = $end - time;
        return undef if $left <= 0;
        my $message = $self->next_message($left);
        return undef unless defined $message;
        push @{ $self->{events} }, $message if exists $message->{event};
    }
}

1;
