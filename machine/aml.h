/*
 * A small emitter of ACPI machine language, enough for a DSDT.
 * Specification: ACPI 6.4 chapter 20 (AML), 6.4 (resource data types).
 *
 * Everything appends to a buffer. An operator with a package length is opened, filled, and closed
 * with aml_end(aml, what the opener returned); inner ones are closed first. No memory: abort.
 */
#ifndef MACHINE_AML_H
#define MACHINE_AML_H

#include "machine/types.h"

struct aml {
    u8 *bytes;
    size_t length, capacity;
};

void aml_free(struct aml *aml);
void aml_byte(struct aml *aml, u8 value);
void aml_word(struct aml *aml, u16 value);
void aml_dword(struct aml *aml, u32 value);
void aml_qword(struct aml *aml, u64 value);
void aml_bytes(struct aml *aml, const void *bytes, size_t length);

/* Terms. NAME is a path as ASL writes it ("\\_SB.PCI0", "LNKA"). */
void aml_name(struct aml *aml, const char *name);
void aml_integer(struct aml *aml, u64 value);
void aml_string(struct aml *aml, const char *text);
void aml_eisa_id(struct aml *aml, const char *id); /* "PNP0A03" */
void aml_buffer(struct aml *aml, const void *bytes, size_t length);

/* Name (NAME, …): the object is appended next. */
void aml_declare(struct aml *aml, const char *name);
void aml_declare_integer(struct aml *aml, const char *name, u64 value);
void aml_declare_eisa_id(struct aml *aml, const char *name, const char *id);

size_t aml_scope(struct aml *aml, const char *name);
size_t aml_device(struct aml *aml, const char *name);
size_t aml_method(struct aml *aml, const char *name, unsigned arguments, bool serialized);
size_t aml_package(struct aml *aml, u8 count);
size_t aml_if(struct aml *aml); /* the predicate comes first */
size_t aml_field(struct aml *aml, const char *region, u8 flags);
void aml_field_unit(struct aml *aml, const char *name, unsigned bits);
void aml_operation_region(struct aml *aml, const char *name, u8 space, u32 offset, u32 length);
void aml_processor(struct aml *aml, const char *name, u8 id);
void aml_end(struct aml *aml, size_t open);

enum { AML_ARG0 = 0x68, AML_STORE = 0x70, AML_AND = 0x7b, AML_OR = 0x7d, AML_CREATE_DWORD = 0x8a,
       AML_LESS = 0x95, AML_RETURN = 0xa4 };

/* Resource descriptors go into a buffer of their own; aml_resources puts it, with an end tag, as a
 * Buffer into AML and frees it. */
void aml_io(struct aml *resources, u16 base, u8 alignment, u8 length);
void aml_irq(struct aml *resources, unsigned irq);
void aml_dma(struct aml *resources, unsigned channel);
void aml_memory32_fixed(struct aml *resources, bool writable, u32 base, u32 length);
void aml_interrupts(struct aml *resources, bool level, bool shared, const u32 *numbers, u8 count);
void aml_bus_numbers(struct aml *resources, u16 first, u16 last);
void aml_port_window(struct aml *resources, u16 first, u16 last);
void aml_memory32_window(struct aml *resources, bool cacheable, u32 first, u32 last);
void aml_memory64_window(struct aml *resources, bool cacheable, u64 first, u64 last);
void aml_resources(struct aml *aml, struct aml *resources);

#endif
