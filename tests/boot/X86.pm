# What tests need to make x86 guests on any host: a compiler for them.
package X86;
use strict;
use warnings;
use POSIX ();

# $X86_CC, the native compiler of an x86 host, or x86_64-linux-gnu-gcc; undef: there is none.
sub compiler {
    my $machine = (POSIX::uname())[4];
    for my $cc (grep { $_ } $ENV{X86_CC}, $machine =~ /^(x86_64|i.86)$/ ? 'gcc' : (), 'x86_64-linux-gnu-gcc') {
        return $cc if system("$cc -dumpmachine >/dev/null 2>&1") == 0;
    }
    return undef;
}

our $missing = 'no x86 compiler (gcc on an x86 host, x86_64-linux-gnu-gcc, or X86_CC)';

1;
