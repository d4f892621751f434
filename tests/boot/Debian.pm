# Debian's kernels and busybox as guests: fetched by lib.sh, with an initial RAM disk for tests.
package Debian;
use strict;
use warnings;

my $source = $ENV{SOURCE} || '.';
our $cache = $ENV{LYREBIRD_CACHE} || ($ENV{XDG_CACHE_HOME} || "$ENV{HOME}/.cache") . '/lyrebird';
our @made;
our @network = qw(failover net_failover virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_net);

sub lib {
    my ($command) = @_;
    my $output = qx(QUIET=1 SOURCE='$source' LYREBIRD_CACHE='$cache' sh -c '. "$source/tests/boot/lib.sh"; $command' 2>/dev/null);
    chomp $output;
    return $? ? undef : $output;
}

# (kernel file, initial RAM disk) of PACKAGE for ARCH and SUITE ("" is the host's); () when there is
# none.
sub kernel {
    my ($arch, $suite, $package, @modules) = @_;
    my $folder = lib("unpacked $arch \"$suite\" $package") or return;
    my $busybox = lib("unpacked $arch \"\" busybox-static") or return;
    my $initrd = "$cache/test-$arch-$suite-$package-$$.cpio";
    @modules = @network unless @modules;
    defined lib("make_initrd \"$initrd\" \"$busybox\" \"$folder\" \"$source/tests/boot/demo-init\" @modules") or return;
    push @made, $initrd;
    return (lib("kernel_of \"$folder\""), $initrd);
}

END { unlink @made }

1;
