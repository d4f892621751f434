#!/usr/bin/perl
# Debian's installer from its network boot images: the text one on the VGA text screen, driven by
# keys through language, location and keyboard until the network card was found and has an address;
# the graphical one to a picture of its first dialog.
# length: long
use strict;
use warnings;
use Guest;
use Debian;
use Compress::Zlib;
use File::Temp qw(tempdir);
use Test::More;
use Time::HiRes qw(sleep time);

my $dir = tempdir(CLEANUP => 1);
my $folder = Debian::lib('unpacked amd64 "" debian-installer-12-netboot-amd64');
plan skip_all => 'the distribution\'s installer cannot be fetched here' unless $folder;

sub start {
    my ($kind, $card, $append) = @_;
    my ($linux) = glob "$folder/usr/lib/debian-installer/images/12/amd64/$kind/debian-installer/amd64/linux";
    (my $initrd = $linux) =~ s/linux\z/initrd.gz/;
    return Guest->start(args => ['-m', '1024', '-kernel', $linux, '-initrd', $initrd, '-nic',
        "user,model=$card", '-append', $append], monitor => 1);
}

# The picture of a PNG of 8 bits a channel: (width, height, sub (x, y) -> 'rrggbb').
sub read_png {
    my ($path) = @_;
    open my $f, '<:raw', $path or return;
    my $bytes = do { local $/; <$f> };
    my ($at, $packed, $width, $height, $kind) = (8, '');
    while ($at + 12 <= length $bytes) {
        my ($size, $type) = unpack 'N a4', substr $bytes, $at, 8;
        ($width, $height, undef, $kind) = unpack 'N N C C', substr $bytes, $at + 8, 10
            if $type eq 'IHDR';
        $packed .= substr $bytes, $at + 8, $size if $type eq 'IDAT';
        $at += 12 + $size;
    }
    my $step = $kind == 6 ? 4 : 3;
    my $raw = uncompress($packed) or return;
    my (@lines, @above);
    for my $y (0 .. $height - 1) {
        my ($filter, @line) = unpack 'C*', substr $raw, $y * ($width * $step + 1),
            $width * $step + 1;
        for my $i (0 .. ($filter ? $#line : -1)) {
            my $a = $i >= $step ? $line[$i - $step] : 0;
            my $b = $y ? $above[$i] : 0;
            my $c = $y && $i >= $step ? $above[$i - $step] : 0;
            my ($pa, $pb, $pc) = (abs($b - $c), abs($a - $c), abs($a + $b - 2 * $c));
            my $guess = $filter == 1 ? $a : $filter == 2 ? $b : $filter == 3 ? ($a + $b) >> 1
                : $pa <= $pb && $pa <= $pc ? $a : $pb <= $pc ? $b : $c;
            $line[$i] = ($line[$i] + $guess) & 255;
        }
        @above = @line;
        push @lines, pack 'C*', @line;
    }
    return ($width, $height, sub { my ($x, $y) = @_; return unpack 'H6', substr $lines[$y], $x * $step, 3 });
}

# What tells the installer's list of languages from a console or an empty page: (colours, shares of
# the points below the banner that are light and that are the selection's blue-green, share of the
# banner's that are dark blue-green).
sub measure {
    my ($width, $height, $point) = @_;
    my ($light, $bar, $dark, $banner, %count) = (0, 0, 0, 76);
    for my $y (0 .. $height - 1) {
        for my $x (0 .. $width - 1) {
            my $colour = $point->($x, $y);
            $count{$colour}++;
            my ($r, $g, $b) = unpack 'C3', pack 'H6', $colour;
            if ($y < $banner) { $dark++ if $r < 64 && $g > 48 && $b > 64 && $b < 160 }
            elsif ($r > 220 && $g > 220 && $b > 200) { $light++ }
            elsif ($r < 64 && $g > 112 && $g < 144 && $b > 104 && $b < 136) { $bar++ }
        }
    }
    my $page = $width * ($height - $banner);
    return (scalar keys %count, $light / $page, $bar / $page, $dark / ($width * $banner));
}

# --- text ---
for my $card ('e1000') {
    my $g = start('text', $card, 'vga=normal fb=false nomodeset quiet ---');
    SKIP: {
        my @steps = (
            [qr/Select a language.*English/s, 1200, 'language menu'],
            [qr/Select your location.*United States/s, 300, 'location menu'],
            [qr/Configure the keyboard.*American English/s, 300, 'keyboard menu'],
            [qr/Configure the network.*hostname/is, 900,
            'network: card found, address by DHCP, asks for the host\'s name'],
        );
        for my $i (0 .. $#steps) {
            my ($pattern, $timeout, $name) = @{ $steps[$i] };
            my $there = ok($g->screen($pattern, $timeout), "text, $card: $name")
                or diag $g->{screen}, $g->tail;
            diag sprintf '%s after %d s', $name, $g->seconds;
            skip "no $name", $#steps - $i + 1 unless $there;
            sleep 3;
            $g->keys('ret') if $i < $#steps;
        }
        # The name is typed over; the next question shows that it was taken.
        $g->keys(('backspace') x 30);
        $g->type("lyre-bird1\n");
        ok($g->screen(qr/Domain name/, 300),
            "text, $card: the host's name is typed, next question") or diag $g->{screen};
    }
    $g->stop;
}

# --- graphical: by the card's driver, and by the mode the kernel has the VGA BIOS set ---
for (['', 1024, 768, 100], ['nomodeset ', 800, 600, 100]) {
    my ($append, $width, $height, $colours) = @$_;
    my $name = $append ? 'graphical, VESA mode' : 'graphical, bochs-drm';
    my $g = start('gtk', 'virtio-net-pci', "vga=788 ${append}quiet ---");
    my ($end, $seen, @picture, @measure) = (time + 1800);
    my ($size, $measured) = (0, 0);
    my $look = sub {
        unlink "$dir/screen.png";
        $g->monitor("screendump $dir/screen.png");
        return $size = -s "$dir/screen.png" || 0;
    };
    while (time < $end && !$seen) {
        sleep 10;
        # To read a picture takes seconds: only one that stands still, and only once.
        my $before = $size;
        next if $look->() != $before || $size == $measured;
        $measured = $size;
        next unless (@picture = read_png("$dir/screen.png")) && $picture[0] == $width
            && $picture[1] == $height;
        @measure = measure(@picture);
        $seen = $measure[0] >= $colours && $measure[1] > 0.6 && $measure[2] > 0.015
            && $measure[3] > 0.4;
    }
    ok($seen, "$name: Debian's banner over a list, one of it selected, at ${width}x$height")
        or diag "@picture[0, 1] @measure\n", $g->tail;
    diag sprintf '%s: %d colours, %.3f light, %.3f selected, %.3f banner, after %d s', $name,
        @measure, $g->seconds if @measure;
    system "cp $dir/screen.png '$ENV{PICTURES}/$width.png'" if $ENV{PICTURES};
    SKIP: {
        skip 'no dialog', 1 unless $seen;
        my $before = $size;
        $g->keys('down');
        my $changed;
        for (1 .. 30) { sleep 2; last if $changed = $look->() != $before }
        ok($changed, "$name: the selection moves by a key");
    }
    $g->stop;
}
done_testing;
