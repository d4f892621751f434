# Guests of a few bytes for the debugger's tests, without a compiler: a multiboot kernel around
# machine code.
package Tiny;
use strict;
use warnings;

# An ELF file with CODE (32-bit, protected mode, no paging) at 1 MiB + 4 KiB.
sub kernel {
    my ($path, $code) = @_;
    my $base = 0x101000;
    my $header = "\x7fELF" . pack('C12 v2 V5 v6', 1, 1, 1, (0) x 9, 2, 3, 1, $base + 12, 52, 0, 0,
        52, 32, 1, 0, 0, 0);
    my $body = pack('V3', 0x1badb002, 0, -0x1badb002 & 0xffffffff) . $code . "\0" x 64;
    my $segment = pack 'V8', 1, 0x1000, $base, $base, length $body, length $body, 7, 0x1000;
    my $image = $header . $segment;
    open my $file, '>:raw', $path or die "$path: $!";
    print $file $image, "\0" x (0x1000 - length $image), $body;
    close $file;
    return $path;
}

# Paging on: the first 4 MiB as they are by a large page, 4 MiB as 1 MiB for everybody. Then counts
# in EBX for ever.
sub paging_code {
    return join '', map { pack 'H*', $_ =~ s/ //gr } (
        'c705 00002000 83000000',   # [200000h] = a large page
        'c705 04002000 07102000',   # [200004h] = table at 201000h, user, writable
        'c705 00102000 05001000',   # [201000h] = 100000h, user
        'b8 00002000', '0f22d8',    # CR3
        '0f20e0', '83c810', '0f22e0', # CR4.PSE
        '0f20c0', '0d 00000080', '0f22c0', # CR0.PG
        'bc 00002000',              # ESP
        '43', 'ebfd');
}

# Writes BYTE to PORT, then waits for ever.
sub out_code {
    my ($port, $byte) = @_;
    return pack("C V C C C", 0xba, $port, 0xb0, $byte, 0xee) . "\xfa\xf4\xeb\xfc";
}

1;
