/*
 * A guest that writes garbage to every register it can find: ports, PCI configuration, BARs, the
 * fixed memory-mapped chips. Its only aim is to keep an emulator busy with nonsense; it asks
 * nothing.
 *
 * Multiboot, 32-bit, no paging, at 2 MiB: there the A20 gate does not matter. The command line
 * gives seed=N; each reset starts another sequence of the same seed, counted in CMOS byte 60h. A
 * byte to port E9h now and then says that it is still going. Left out: what ends the run at once
 * (PM1 control, CF9h, the reset lines of the keyboard controller and port 92h, B2h, INIT by the
 * APICs).
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define RAM_PLAY 0x00800000u /* what chips are told to read and write, mostly */
#define RAM_PLAY_SIZE 0x00700000u
#define COUNT(a) (sizeof(a) / sizeof *(a))

__asm__(".section .multiboot, \"a\"\n"
        ".balign 4\n"
        ".long 0x1badb002, 0, -0x1badb002\n"
        ".text\n"
        ".globl _start\n"
        "_start:\n"
        "  movl $stack + 16384, %esp\n"
        "  pushl %ebx\n"
        "  call begin\n"
        /* An interrupt or an exception, it does not matter which: once more from here. */
        ".globl again\n"
        "again:\n"
        "  movl $stack + 16384, %esp\n"
        "  cld\n"
        "  call trapped\n"
        ".globl nmi\n"
        "nmi: iretl\n");

extern void again(void), nmi(void);
u8 stack[16384];

static inline void outb(u16 port, u8 v) { __asm__ volatile("outb %0, %1" ::"a"(v), "d"(port)); }
static inline void outw(u16 port, u16 v) { __asm__ volatile("outw %0, %1" ::"a"(v), "d"(port)); }
static inline void outl(u16 port, u32 v) { __asm__ volatile("outl %0, %1" ::"a"(v), "d"(port)); }
static inline u8 inb(u16 port)
{
    u8 v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "d"(port));
    return v;
}
static inline u16 inw(u16 port)
{
    u16 v;
    __asm__ volatile("inw %1, %0" : "=a"(v) : "d"(port));
    return v;
}
static inline u32 inl(u16 port)
{
    u32 v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "d"(port));
    return v;
}

/* --- random numbers: xorshift, and values that mean something to chips --- */

static u32 state, steps;

static u32 next(void)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static u32 below(u32 n) { return (next() >> 4) % n; }

static u32 value(void)
{
    switch (next() >> 29) {
    case 0: return 0;
    case 1: return 0xffffffff;
    case 2: return 1u << (next() >> 27);
    case 3: return next() & 0xff;
    case 4: return RAM_PLAY + next() % RAM_PLAY_SIZE;
    case 5: return (RAM_PLAY + next() % RAM_PLAY_SIZE) & ~0xfffu;
    default: return next();
    }
}

/* --- what there is --- */

struct bar { u32 base, size; u8 io; };
static struct bar bars[96];
static u32 bar_count;
static u16 functions[32]; /* bus 0 */
static u32 function_count;

static void config_select(u32 devfn, u32 reg)
{
    outl(0xcf8, 0x80000000u | devfn << 8 | (reg & 0xfc));
}
static u32 config_read(u32 devfn, u32 reg) { config_select(devfn, reg); return inl(0xcfc); }
static void config_write(u32 devfn, u32 reg, u32 v) { config_select(devfn, reg); outl(0xcfc, v); }

/* Gives every BAR a place and switches everything on. */
static void place_bars(void)
{
    u32 io = 0xc000, memory = 0xe0000000;
    bar_count = function_count = 0;
    for (u32 devfn = 0; devfn < 256; devfn++) {
        u32 id = config_read(devfn, 0);
        if ((u16)id == 0xffff || function_count == COUNT(functions)) continue;
        functions[function_count++] = (u16)devfn;
        if (devfn == 0) continue;
        for (u32 reg = 0x10; reg <= 0x30; reg += 4) {
            if (reg == 0x28 || reg == 0x2c) continue;
            config_write(devfn, reg, 0xffffffff);
            u32 mask = config_read(devfn, reg);
            if (!mask || bar_count == COUNT(bars)) continue;
            u32 is_io = reg != 0x30 && mask & 1, size = ~(mask & (is_io ? ~3u : ~15u)) + 1;
            if (is_io) size &= 0xffff;
            u32 *at = is_io ? &io : &memory;
            if (!size || size > 0x4000000) continue;
            *at = (*at + size - 1) & ~(size - 1);
            config_write(devfn, reg, *at | (reg == 0x30));
            bars[bar_count++] = (struct bar){*at, size, (u8)is_io};
            *at += size;
            if (!is_io && (mask & 6) == 4) config_write(devfn, reg += 4, 0);
        }
        config_write(devfn, 4, 7);
    }
}

static const u16 ports[] = {
    0x00, 0x02, 0x03, 0x04, 0x05, 0x08, 0x0a, 0x0b, 0x0c, 0x0d, 0x0f, 0x81, 0x82, 0x83, 0x87, 0xc0,
    0xc4, 0xd0, 0xd4, 0xd6, 0xd8, 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43,
    0x61, 0x60, 0x64, 0x92, 0x80, 0x170, 0x171, 0x172, 0x173, 0x174, 0x175, 0x176, 0x177, 0x376,
    0x1f0, 0x1f1, 0x1f2, 0x1f3, 0x1f4, 0x1f5, 0x1f6, 0x1f7, 0x3f6, 0x2f8, 0x2fb, 0x378, 0x379,
    0x37a, 0x3b4, 0x3b5, 0x3ba, 0x3c0, 0x3c1, 0x3c2, 0x3c4, 0x3c5, 0x3c6, 0x3c7, 0x3c8, 0x3c9,
    0x3ce, 0x3cf, 0x3d4, 0x3d5, 0x3da, 0x3f2, 0x3f4, 0x3f5, 0x3f7, 0x3f8, 0x3f9, 0x3fa, 0x3fb,
    0x3fc, 0x3fd, 0x3ff, 0x1ce, 0x1cf, 0x1d0, 0x505, 0x510, 0x511, 0x514, 0x518, 0x600, 0x602,
    0x608, 0xafe0, 0xae00, 0xcf8, 0xcfc, 0xcfe, 0x700, 0x702, 0x703, 0x704,
};
static const struct bar fixed[] = {
    {0xa0000, 0x20000, 0},    {0xb8000, 0x1000, 0},        {0xc0000, 0x40000, 0},
    {0xfec00000, 0x100, 0},   {0xfee00000, 0x400, 0},      {0xfed00000, 0x400, 0},
    {0xfffc0000, 0x40000, 0}, {0xd0000000, 0x10000000, 0}, {0xfd000000, 0x2000000, 0},
};

/* --- the blows --- */

static int forbidden(u16 port, u32 size, u32 v)
{
    for (u32 i = 0; i < size; i++, v >>= 8) {
        u16 p = (u16)(port + i);
        if (p == 0xcf9 || p == 0xb2 || p == 0xe9 || p == 0xf4 || p == 0x70 || p == 0x71) return 1;
        if (p == 0x604 || p == 0x605 || p == 0xb004 || p == 0xb005) return 1;
        if (p == 0x92 && v & 1) return 1;
        if (p == 0x64 && (v & 0xf1) == 0xf0) return 1;
    }
    return 0;
}

static void strike_port(u16 port)
{
    u32 v = value(), how = next() >> 28, size = how < 8 ? 1 : how < 12 ? 2 : 4;
    if (next() >> 30 == 0) {
        if (size == 1) inb(port);
        else if (size == 2) inw(port);
        else inl(port);
    } else if (forbidden(port, size, v)) {
        return;
    } else if (size == 1) {
        outb(port, (u8)v);
    } else if (size == 2) {
        outw(port, (u16)v);
    } else {
        outl(port, v);
    }
}

static void strike_string(u16 port)
{
    u32 at = RAM_PLAY + next() % (RAM_PLAY_SIZE - 4096), n = next() % 300;
    if (port >= 0x60 && port <= 0x92) return; /* keyboard controller, port 92h */
    switch (next() & 3) {
    case 0: __asm__ volatile("rep insb" : "+D"(at), "+c"(n) : "d"(port) : "memory"); break;
    case 1: __asm__ volatile("rep insw" : "+D"(at), "+c"(n) : "d"(port) : "memory"); break;
    case 2:
        if (!forbidden(port, 4, 1))
            __asm__ volatile("rep outsw" : "+S"(at), "+c"(n) : "d"(port) : "memory");
        break;
    default:
        if (!forbidden(port, 4, 1))
            __asm__ volatile("rep outsl" : "+S"(at), "+c"(n) : "d"(port) : "memory");
    }
}

static void strike_memory(u32 base, u32 size)
{
    u32 offset = next() % size, v = value(), n = next() % 70,
        from = RAM_PLAY + next() % (RAM_PLAY_SIZE - 4096);
    if (next() >> 29) offset &= ~3u;
    else if (next() >> 31) offset %= 0x400;
    u32 at = base + offset;
    /* INIT (or start-up, SMI) to ourselves would end the run: delivery mode 0 or 4 only. */
    if (base == 0xfee00000 || base == 0xfec00000) v &= ~0x300u;
    switch (next() >> 28) {
    case 0: *(volatile u8 *)at = (u8)v; break;
    case 1: *(volatile u16 *)at = (u16)v; break;
    case 2: case 3: case 4: case 5: case 6: *(volatile u32 *)at = v; break;
    case 7: (void)*(volatile u8 *)at; break;
    case 8: (void)*(volatile u16 *)at; break;
    case 9: case 10: (void)*(volatile u32 *)at; break;
    case 11: __asm__ volatile("lock xaddl %0, (%1)" : "+r"(v) : "r"(at) : "memory"); break;
    case 12: __asm__ volatile("xchgb %b0, (%1)" : "+q"(v) : "r"(at) : "memory"); break;
    case 13:
        if (base != 0xfee00000)
            __asm__ volatile("rep movsb" : "+S"(from), "+D"(at), "+c"(n)::"memory");
        break;
    case 14: __asm__ volatile("rep movsl" : "+S"(at), "+D"(from), "+c"(n)::"memory"); break;
    default: __asm__ volatile("fldl (%1); fstpl (%0)" ::"r"(from), "r"(at) : "memory"); break;
    }
}

static void strike_config(void)
{
    u32 devfn = functions[below(function_count)], reg = next() & 0xff, v = value();
    /* BARs and the command register are left alone for most of the time, or nothing would
     * answer. */
    if ((reg & 0xfc) == 4 || (reg >= 0x10 && reg < 0x34 && next() >> 29)) return;
    /* PM base: its control register would wander */
    if (devfn == 0x0b && reg >= 0x40 && reg < 0x44) return;
    config_select(devfn, reg);
    switch (next() & 3) {
    case 0: outb((u16)(0xcfc + (reg & 3)), (u8)v); break;
    case 1: outw((u16)(0xcfc + (reg & 2)), (u16)v); break;
    case 2: outl(0xcfc, v); break;
    default: inl(0xcfc);
    }
}

/* A disk command with a plausible task file. */
static void strike_ide(void)
{
    static const u8 commands[] = {0x20, 0x24, 0x25, 0x29, 0x30, 0x34, 0x35, 0x39, 0xc4, 0xc5, 0xc6,
                                  0xc8, 0xca, 0xe7,
        0xec, 0xa1, 0xa0, 0xef, 0x91, 0x06, 0x40, 0xf8, 0xf9, 0xb0, 0xe0, 0x08, 0x90, 0x00};
    u16 base = next() & 1 ? 0x1f0 : 0x170;
    outb(base + 6, (u8)(0xa0 | next() % 0x60));
    for (u16 i = 1; i < 6; i++) outb(base + i, (u8)value());
    if (next() & 1) for (u16 i = 2; i < 6; i++) outb(base + i, (u8)value());
    outb(base + 7, next() >> 29 ? commands[below(COUNT(commands))] : (u8)next());
    u32 words = next() % 300;
    if (next() & 1) for (u32 i = 0; i < 6; i++) outw(base, (u16)value());
    while (words--) inw(base);
}

/* Index and data: VGA's, the RTC's, fw_cfg's, Bochs VBE's. */
static void strike_pair(void)
{
    u32 r = next();
    switch (r >> 29) {
    case 0: outw(0x3c4, (u16)(next() % 8 | value() << 8)); break;
    case 1: outw(0x3ce, (u16)(next() % 12 | value() << 8)); break;
    case 2: outw(0x3d4, (u16)(next() % 32 | value() << 8)); break;
    case 3:
        outw(0x1ce, (u16)(next() % 12));
        outw(0x1cf, (u16)(r & 1 ? value() : next() % 2000));
        break;
    case 4: inb(0x3da); outb(0x3c0, (u8)(next() % 64)); outb(0x3c0, (u8)value()); break;
    case 5:
        r = next() & 0x7f;
        if (r == 0x60 || r == 0x0f) return; /* our count; shut-down status */
        outb(0x70, (u8)r);
        if (next() & 1) outb(0x71, (u8)value());
        else inb(0x71);
        break;
    case 6: outw(0x510, (u16)(next() % 64)); for (r = next() % 64; r--;) inb(0x511); break;
    default: /* fw_cfg DMA: a descriptor, big-endian, in the playground */
        r = RAM_PLAY + (next() % RAM_PLAY_SIZE & ~0xfu);
        ((volatile u32 *)r)[0] = __builtin_bswap32((next() % 64) << 16 | (next() & 31));
        ((volatile u32 *)r)[1] = __builtin_bswap32(value() >> (next() & 31));
        ((volatile u32 *)r)[2] = 0;
        ((volatile u32 *)r)[3] = __builtin_bswap32(RAM_PLAY + next() % RAM_PLAY_SIZE);
        outl(0x518, __builtin_bswap32(r));
    }
}

/* A descriptor-like structure into the playground, so that rings sometimes hold something. */
static void scatter(void)
{
    volatile u32 *p = (volatile u32 *)(RAM_PLAY + (next() % (RAM_PLAY_SIZE - 64) & ~0xfu));
    for (u32 i = 0; i < 8; i++) p[i] = value();
}

static void strike(void)
{
    const struct bar *b;
    switch (next() >> 28) {
    case 0: case 1: case 2: strike_port(ports[below(COUNT(ports))]); break;
    case 3: strike_port((u16)next()); break;
    case 4: strike_string(ports[below(COUNT(ports))]); break;
    case 5: strike_config(); break;
    case 6: strike_ide(); break;
    case 7: case 8: strike_pair(); break;
    case 9: case 10: b = &fixed[below(COUNT(fixed))]; strike_memory(b->base, b->size); break;
    case 11: scatter(); break;
    default:
        if (!bar_count) return;
        b = &bars[below(bar_count)];
        if (!b->io) strike_memory(b->base, next() & 1 || b->size < 0x1000 ? b->size : 0x1000);
        else strike_port((u16)(b->base + next() % b->size));
    }
}

static void go(void)
{
    for (;;) {
        u32 step = steps++;
        if ((step & 0x1ff) == 0) outb(0xe9, '.');
        if ((step & 0xfff) == 0) place_bars();
        if ((step & 0x3ff) == 0x100) __asm__ volatile("sti; nop; nop; cli");
        strike();
    }
}

void trapped(void)
{
    outb(0x20, 0x20);
    outb(0xa0, 0x20);
    *(volatile u32 *)0xfee000b0 = 0;
    go();
}

/* --- start --- */

struct gate { u16 low, selector, type, high; };
static struct gate idt[256];
static const unsigned long long gdt[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};

static u32 seed_of(const char *text)
{
    u32 seed = 0;
    for (; text && *text; text++)
        if (text[0] == 's' && text[1] == 'e' && text[2] == 'e' && text[3] == 'd' && text[4] == '=')
            for (text += 5; *text >= '0' && *text <= '9'; text++)
                seed = seed * 10 + (u32)(*text - '0');
    return seed;
}

static void load_tables(void)
{
    struct __attribute__((packed)) { u16 limit; u32 base; } g = {sizeof gdt - 1, (u32)gdt},
        i = {sizeof idt - 1, (u32)idt};
    for (u32 n = 0; n < 256; n++) {
        u32 to = n == 2 ? (u32)nmi : (u32)again;
        idt[n] = (struct gate){(u16)to, 8, 0x8e00, (u16)(to >> 16)};
    }
    __asm__ volatile("lgdt %0; ljmp $8, $1f; 1:" ::"m"(g));
    __asm__ volatile(
        "movl %0, %%ds; movl %0, %%es; movl %0, %%ss; movl %0, %%fs; movl %0, %%gs" ::"r"(16));
    __asm__ volatile("lidt %0; fninit" ::"m"(i));
}

void begin(u32 *multiboot)
{
    u32 seed = seed_of(multiboot[0] & 4 ? (const char *)multiboot[4] : 0);
    load_tables();
    outb(0x70, 0x60);
    u8 life = inb(0x71);
    outb(0x70, 0x60);
    outb(0x71, (u8)(life + 1));
    state = (seed * 2654435761u) ^ (life * 40503u) ^ 0x9e3779b9u;
    if (!state) state = 1;
    for (u32 n = 0; n < 16; n++) next();
    outb(0xe9, 'S');
    go();
}
