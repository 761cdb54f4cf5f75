#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "archive.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

part *plan_add(archive_plan *plan, const char *name, const void *data, size_t size)
{
    assert_true(plan->parts < MAX_PARTS);
    part *p = &plan->part[plan->parts++];
    *p = (part){.align = 64};
    snprintf(p->name, sizeof p->name, "%s", name);
    bytes_add(&p->data, data, size);
    return p;
}

void plan_free(archive_plan *plan)
{
    for (int i = 0; i < plan->parts; i++)
        bytes_free(&plan->part[i].data);
    *plan = (archive_plan){0};
}

static void add_local(bytes *b, const part *p)
{
    const char *name = p->local ? p->local : p->name;
    size_t begin = b->size + 30 + strlen(name), extra = 0;
    if (p->align) {
        extra = (p->align - (begin + 4) % p->align) % p->align + 4;
    }
    bytes_u(b, 0x04034b50, 4);
    bytes_u(b, 0, 2); /* version */
    bytes_u(b, p->flags, 2);
    bytes_u(b, p->method, 2);
    bytes_u(b, 0, 8); /* time, date, CRC */
    bytes_u(b, p->data.size, 4);
    bytes_u(b, p->data.size, 4);
    bytes_u(b, strlen(name), 2);
    bytes_u(b, extra, 2);
    bytes_text(b, name);
    if (extra) {
        bytes_u(b, 0x4246, 2); /* "FB", as PyTorch pads */
        bytes_u(b, extra - 4, 2);
        for (size_t i = 4; i < extra; i++)
            bytes_u(b, 'Z', 1);
    }
    bytes_add(b, p->data.data, p->data.size);
}

static void add_central(bytes *b, const archive_plan *plan, const part *p, size_t local)
{
    bytes_u(b, 0x02014b50, 4);
    bytes_u(b, 0, 4);
    bytes_u(b, p->flags, 2);
    bytes_u(b, p->method, 2);
    bytes_u(b, 0, 8);
    bytes_u(b, plan->zip64 ? 0xffffffff : p->data.size + p->size_more + p->packed_more, 4);
    bytes_u(b, plan->zip64 ? 0xffffffff : p->data.size + p->size_more, 4);
    bytes_u(b, strlen(p->name), 2);
    bytes_u(b, plan->zip64 ? 28 + 5 : 0, 2);
    bytes_u(b, 0, 2);
    bytes_u(b, 0, 8);
    bytes_u(b, plan->zip64 ? 0xffffffff : local + p->local_more, 4);
    bytes_text(b, p->name);
    if (plan->zip64) {
        bytes_u(b, 0x7777, 2); /* a field of no interest first */
        bytes_u(b, 1, 2);
        bytes_u(b, 0, 1);
        bytes_u(b, 1, 2);
        bytes_u(b, 24, 2);
        bytes_u(b, p->data.size + p->size_more, 8);
        bytes_u(b, p->data.size + p->size_more + p->packed_more, 8);
        bytes_u(b, local + p->local_more, 8);
    }
}

bytes plan_zip(const archive_plan *plan)
{
    bytes b = {0};
    size_t local[MAX_PARTS];
    for (int i = 0; i < plan->parts; i++) {
        local[i] = b.size;
        add_local(&b, &plan->part[i]);
    }
    size_t begin = b.size, entries = (size_t)plan->parts + plan->entries_more;
    for (int i = 0; i < plan->parts; i++)
        add_central(&b, plan, &plan->part[i], local[i]);
    size_t end = b.size, size = end - begin;
    if (plan->zip64) {
        bytes_u(&b, 0x06064b50, 4);
        bytes_u(&b, 44, 8);
        bytes_u(&b, 0, 4);
        bytes_u(&b, 0, 8);
        bytes_u(&b, entries, 8);
        bytes_u(&b, entries, 8);
        bytes_u(&b, size, 8);
        bytes_u(&b, begin + plan->directory_more, 8);
        bytes_u(&b, 0x07064b50, 4);
        bytes_u(&b, 0, 4);
        bytes_u(&b, end, 8);
        bytes_u(&b, 1, 4);
    }
    bytes_u(&b, 0x06054b50, 4);
    bytes_u(&b, 0, 4);
    bytes_u(&b, plan->zip64 ? 0xffff : entries, 2);
    bytes_u(&b, plan->zip64 ? 0xffff : entries, 2);
    bytes_u(&b, plan->zip64 ? 0xffffffff : size, 4);
    bytes_u(&b, plan->zip64 ? 0xffffffff : begin + plan->directory_more, 4);
    bytes_u(&b, plan->comment ? strlen(plan->comment) : 0, 2);
    bytes_text(&b, plan->comment ? plan->comment : "");
    return b;
}

/* ---- pickles ----------------------------------------------------------------------------------------------------- */

void pickle_global(bytes *p, const char *module, const char *name)
{
    bytes_text(p, "c");
    bytes_text(p, module);
    bytes_text(p, "\n");
    bytes_text(p, name);
    bytes_text(p, "\n");
}

void pickle_begin(bytes *p)
{
    bytes_text(p, "\x80\x02");
    pickle_global(p, "collections", "OrderedDict");
    bytes_text(p, ")R(");
}

void pickle_end(bytes *p)
{
    bytes_text(p, "u.");
}

void pickle_text(bytes *p, const char *text)
{
    bytes_text(p, "X");
    bytes_u(p, strlen(text), 4);
    bytes_text(p, text);
}

void pickle_number(bytes *p, int64_t value)
{
    if (value >= 0 && value < 256) {
        bytes_text(p, "K");
        bytes_u(p, (uint64_t)value, 1);
    } else if (value >= INT32_MIN && value <= INT32_MAX) {
        bytes_text(p, "J");
        bytes_u(p, (uint64_t)value, 4);
    } else {
        bytes_text(p, "\x8a\x08");
        bytes_u(p, (uint64_t)value, 8);
    }
}

void pickle_tuple(bytes *p, int n, const int64_t *value)
{
    bytes_text(p, "(");
    for (int i = 0; i < n; i++)
        pickle_number(p, value[i]);
    bytes_text(p, "t");
}

void pickle_storage(bytes *p, const char *type, const char *key, int64_t values)
{
    bytes_text(p, "(");
    pickle_text(p, "storage");
    pickle_global(p, "torch", type);
    pickle_text(p, key);
    pickle_text(p, "cpu");
    pickle_number(p, values);
    bytes_text(p, "tQ");
}

void pickle_tensor(bytes *p, const char *name, const char *type, const char *key, int64_t values, int64_t offset,
                   int rank, const int64_t *size, const int64_t *stride)
{
    pickle_text(p, name);
    pickle_global(p, "torch._utils", "_rebuild_tensor_v2");
    bytes_text(p, "(");
    pickle_storage(p, type, key, values);
    pickle_number(p, offset);
    pickle_tuple(p, rank, size);
    pickle_tuple(p, rank, stride);
    bytes_text(p, "\x89");
    pickle_global(p, "collections", "OrderedDict");
    bytes_text(p, ")RtR");
}
