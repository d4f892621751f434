/* The stub's insides, shared by its files. */
#ifndef MACHINE_DEBUG_GDB_INT_H
#define MACHINE_DEBUG_GDB_INT_H

#include "cpu/cpu.h"
#include "machine/chardev_host.h"
#include "machine/debug/gdb.h"
#include "machine/debug/stops.h"
#include "machine/debug/stream.h"
#include "machine/machine.h"

#define PACKET_MAX 16384u       /* bytes between $ and #, either way */
#define HELD_MAX 4096u

enum { SSTEP_ENABLE = 1, SSTEP_NOIRQ = 2, SSTEP_NOTIMER = 4 }; /* as QEMU's */

struct gdb {
    struct machine *machine;
    struct chardev *chardev;
    bool connected, leaving;
    bool no_ack, swbreak, hwbreak; /* what the client said it knows */
    bool waiting;                  /* for a stop reply */
    bool goes;                     /* the machine ran when the client came, or he let it: it shall
                                      when he leaves */
    unsigned thread, run_thread;   /* processors chosen by Hg and Hc */
    u8 sstep;
    bool physical;                 /* memory packets mean physical addresses */
    char stop_reply[128];          /* the last */
    char *target;                  /* target.xml */

    u8 held[HELD_MAX];             /* arrived, not looked at yet */
    unsigned held_from, held_until;
    enum { IN_IDLE, IN_BODY, IN_SUM_HIGH, IN_SUM_LOW } in_state;
    u8 in[PACKET_MAX + 1];
    unsigned in_length;
    bool in_overflow;
    u8 in_sum, in_claimed;
    struct stream out;
    u8 last[PACKET_MAX + 8];       /* the last packet sent, should it be asked for again */
    unsigned last_length;
};

/* --- gdb.c --- */
void gdb_reply(struct gdb *g, const char *text);
/* as they are: no # $ } in them */
void gdb_reply_bytes(struct gdb *g, const void *bytes, unsigned n);
void gdb_reply_hex(struct gdb *g, const void *bytes, unsigned n);
/* shown to the user (O packet) */
void gdb_console(struct gdb *g, const char *text);
/* Hexadecimal from *AT, which moves on; false when there is none or it does not fit. */
bool gdb_number(const char **at, u64 *value);
bool gdb_skip(const char **at, char c);
/* *N hex digits pairs from AT as bytes, at most MOST; how many, -1 when malformed. */
int gdb_unhex(const char *at, u8 *to, unsigned most);
struct vcpu *gdb_cpu(const struct gdb *g);
/* A thread's number or -1 (all), 0 (any): *INDEX is a processor or ALL. False: there is none. */
#define GDB_ALL (~0u)
bool gdb_thread(const struct gdb *g, const char **at, unsigned *index);

/* --- gdb_run.c --- */
void gdb_vcont(struct gdb *g, const char *actions);
void gdb_resume(struct gdb *g, bool step);   /* c, s */
void gdb_attach(struct gdb *g);
void gdb_detach(struct gdb *g, bool go);     /* its breakpoints and steps go */
void gdb_break(struct gdb *g, const char *packet, unsigned n); /* Z and z */

/* --- gdb_regs.c --- */
#define GDB_REG_BYTES 16
unsigned gdb_reg_count(void);
/* The register's bytes in guest order; how many, 0: there is none of that number. */
unsigned gdb_reg_get(struct vcpu *cpu, unsigned n, u8 out[GDB_REG_BYTES]);
/* False when it can't be had. Writing what is there already does nothing. */
bool gdb_reg_set(struct vcpu *cpu, unsigned n, const u8 *bytes);
char *gdb_target_new(void); /* target.xml */

/* --- gdb_memory.c --- */
/* How many of N bytes from ADDRESS on could be had: devices, too. */
unsigned gdb_read(struct gdb *g, u64 address, u8 *to, unsigned n);
bool gdb_write(struct gdb *g, u64 address, const u8 *from, unsigned n);
void gdb_search(struct gdb *g, const char *packet, unsigned n); /* behind "qSearch:memory:" */
void gdb_crc(struct gdb *g, const char *packet);                /* behind "qCRC:" */

/* --- agent.c: conditions as gdb's agent expressions --- */
/* "X length,hex…" one after another; NULL when malformed. One allocation. *AT moves on. */
void *agent_parse(const char **at);
bool agent_true(void *agent, struct vcpu *cpu); /* one of them is, or can't be worked out */

#endif
