/* The stack machine.  Instructions have the names of Python's pickletools. */
#include "format/pickle.h"

#include "format/cursor.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- names that may occur ---------------------------------------------------------------------------------------- */

typedef enum global_id { ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, STORAGE_TYPES } global_id;

static const struct {
    const char *module, *name;
    global_id id; /* STORAGE_TYPES: the type of a storage */
    stored_dtype dtype;
} globals[] = {
    {"collections", "OrderedDict", ORDERED_DICT, 0},
    {"torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR, 0},
    {"torch._utils", "_rebuild_parameter", REBUILD_PARAMETER, 0},
    {"torch", "FloatStorage", STORAGE_TYPES, OAS_STORED_F32},
    {"torch", "HalfStorage", STORAGE_TYPES, OAS_STORED_F16},
    {"torch", "BFloat16Storage", STORAGE_TYPES, OAS_STORED_BF16},
    {"torch", "DoubleStorage", STORAGE_TYPES, OAS_STORED_F64},
    {"torch", "LongStorage", STORAGE_TYPES, OAS_STORED_I64},
    {"torch", "IntStorage", STORAGE_TYPES, OAS_STORED_I32},
    {"torch", "ShortStorage", STORAGE_TYPES, OAS_STORED_I16},
    {"torch", "CharStorage", STORAGE_TYPES, OAS_STORED_I8},
    {"torch", "ByteStorage", STORAGE_TYPES, OAS_STORED_U8},
    {"torch", "BoolStorage", STORAGE_TYPES, OAS_STORED_BOOL},
};

/* ---- the machine ------------------------------------------------------------------------------------------------- */

#define NO_NODE UINT32_MAX
enum { MAX_ITEMS = 4 * OAS_PICKLE_MAX_NODES };

typedef struct machine {
    pickle *out;
    cursor c;
    uint32_t *stack, *memo, *mark; /* memo: NO_NODE where nothing was kept; mark: heights of the stack */
    uint32_t height, stack_room, memo_count, memo_room, marks, mark_room;
    uint32_t items; /* in all containers together */
    size_t at;      /* of the instruction */
    const char *where;
    oasis_message *message;
} machine;

static oasis_status damaged(const machine *m, const char *what)
{
    return oas_fail(m->message, OASIS_E_FORMAT, "%s: byte %zu: %s", m->where, m->at, what);
}

/* Makes room for `need` values in an array that doubles. */
static oasis_status grow(const machine *m, uint32_t **array, uint32_t *room, uint32_t used, uint32_t need)
{
    if (need <= *room)
        return OASIS_OK;
    uint32_t wanted = need < 16 ? 16 : 2 * need; /* need is far below 2^31: everything is capped */
    uint32_t *grown = oas_alloc(wanted, sizeof **array);
    if (!grown)
        return oas_fail_memory(m->message, wanted * sizeof **array, "a pickle");
    if (used)
        memcpy(grown, *array, used * sizeof **array);
    oas_free(*array);
    *array = grown;
    *room = wanted;
    return OASIS_OK;
}

static oasis_status push(machine *m, uint32_t node)
{
    if (m->height == OAS_PICKLE_MAX_NODES)
        return damaged(m, "a stack of more than 2^20 values");
    OAS_TRY(grow(m, &m->stack, &m->stack_room, m->height, m->height + 1));
    m->stack[m->height++] = node;
    return OASIS_OK;
}

/* The height below which values belong to an unfinished container. */
static uint32_t floor_of(const machine *m)
{
    return m->marks ? m->mark[m->marks - 1] : 0;
}

static oasis_status pop(machine *m, uint32_t *node)
{
    *node = 0;
    if (m->height <= floor_of(m))
        return damaged(m, "takes a value from an empty stack");
    *node = m->stack[--m->height];
    return OASIS_OK;
}

/* Adds a node.  Pointers to nodes are valid until the next call. */
static oasis_status make(machine *m, pickle_kind kind, uint32_t *index)
{
    pickle *p = m->out;
    *index = 0;
    if (p->nodes == OAS_PICKLE_MAX_NODES)
        return damaged(m, "more than 2^20 values");
    if (p->nodes == p->node_room) {
        uint32_t room = p->node_room ? 2 * p->node_room : 256;
        pickle_node *grown = oas_alloc(room, sizeof *grown);
        if (!grown)
            return oas_fail_memory(m->message, room * sizeof *grown, "a pickle");
        if (p->nodes)
            memcpy(grown, p->node, p->nodes * sizeof *grown);
        oas_free(p->node);
        p->node = grown;
        p->node_room = room;
    }
    p->node[p->nodes] = (pickle_node){.kind = kind};
    *index = p->nodes++;
    return OASIS_OK;
}

static pickle_node *node_of(const machine *m, uint32_t index)
{
    return &m->out->node[index];
}

static oasis_status push_new(machine *m, pickle_kind kind, int64_t number)
{
    uint32_t index;
    OAS_TRY(make(m, kind, &index));
    node_of(m, index)->number = number;
    return push(m, index);
}

static oasis_status add_items(machine *m, uint32_t container, const uint32_t *item, uint32_t n)
{
    pickle_node *c = node_of(m, container);
    if (n > MAX_ITEMS - m->items)
        return damaged(m, "containers of more than 2^22 items");
    OAS_TRY(grow(m, &c->item, &c->room, c->count, c->count + n));
    if (n)
        memcpy(c->item + c->count, item, n * sizeof *item);
    c->count += n;
    m->items += n;
    return OASIS_OK;
}

/* Takes everything above the last mark: *item points into the stack and stays valid until the next push. */
static oasis_status pop_to_mark(machine *m, const uint32_t **item, uint32_t *n)
{
    *item = NULL;
    *n = 0;
    if (m->marks == 0)
        return damaged(m, "takes values down to a mark that was never set");
    uint32_t bottom = m->mark[--m->marks];
    *n = m->height - bottom;
    *item = *n ? m->stack + bottom : NULL;
    m->height = bottom;
    return OASIS_OK;
}

/* ---- instructions ------------------------------------------------------------------------------------------------ */

static oasis_status push_text(machine *m, uint64_t length)
{
    uint32_t index;
    const unsigned char *text = oas_cursor_take(&m->c, length);
    if (!text)
        return damaged(m, "a text that goes beyond the end");
    OAS_TRY(make(m, OAS_PICKLE_TEXT, &index));
    node_of(m, index)->text = (const char *)text;
    node_of(m, index)->length = (size_t)length;
    return push(m, index);
}

/* LONG1: little-endian, two's complement. */
static oasis_status push_long(machine *m)
{
    unsigned n = (unsigned)oas_cursor_number(&m->c, 1);
    if (n > 8)
        return damaged(m, "a whole number of more than 64 bits");
    uint64_t value = oas_cursor_number(&m->c, n);
    if (n > 0 && n < 8 && value >> (8 * n - 1) & 1)
        value |= UINT64_MAX << 8 * n;
    return push_new(m, OAS_PICKLE_NUMBER, (int64_t)value);
}

static oasis_status push_tuple(machine *m, const uint32_t *item, uint32_t n)
{
    uint32_t index;
    OAS_TRY(make(m, OAS_PICKLE_TUPLE, &index));
    OAS_TRY(add_items(m, index, item, n));
    return push(m, index);
}

static oasis_status small_tuple(machine *m, uint32_t n)
{
    uint32_t item[3];
    for (uint32_t i = n; i > 0; i--)
        OAS_TRY(pop(m, &item[i - 1]));
    return push_tuple(m, item, n);
}

static oasis_status push_global(machine *m, const char *module, size_t module_length, const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof globals / sizeof globals[0]; i++)
        if (strlen(globals[i].module) == module_length && memcmp(globals[i].module, module, module_length) == 0 &&
            strlen(globals[i].name) == length && memcmp(globals[i].name, name, length) == 0)
            return push_new(m, OAS_PICKLE_GLOBAL, (int64_t)i);
    return oas_fail(
        m->message, OASIS_E_UNSUPPORTED,
        "%s: byte %zu: asks for %.*s.%.*s, which is no part of a dictionary of tensors; nothing was executed", m->where,
        m->at, (int)(module_length < 100 ? module_length : 100), module, (int)(length < 100 ? length : 100), name);
}

/* A line without its end, or NULL. */
static const char *take_line(machine *m, size_t *length)
{
    const unsigned char *here = m->c.data + m->c.at, *end = memchr(here, '\n', oas_cursor_left(&m->c));
    if (!end)
        return NULL;
    *length = (size_t)(end - here);
    oas_cursor_take(&m->c, *length + 1);
    return (const char *)here;
}

static oasis_status global_instruction(machine *m)
{
    size_t module_length, length;
    const char *module = take_line(m, &module_length), *name = module ? take_line(m, &length) : NULL;
    if (!name)
        return damaged(m, "a name that goes beyond the end");
    return push_global(m, module, module_length, name, length);
}

static oasis_status stack_global(machine *m)
{
    uint32_t name, module;
    OAS_TRY(pop(m, &name));
    OAS_TRY(pop(m, &module));
    const pickle_node *a = node_of(m, module), *b = node_of(m, name);
    if (a->kind != OAS_PICKLE_TEXT || b->kind != OAS_PICKLE_TEXT)
        return damaged(m, "a name that is no text");
    return push_global(m, a->text, a->length, b->text, b->length);
}

static oasis_status keep(machine *m, uint64_t slot)
{
    if (m->height <= floor_of(m))
        return damaged(m, "keeps a value of an empty stack");
    if (slot >= OAS_PICKLE_MAX_NODES)
        return damaged(m, "keeps a value in a place beyond 2^20");
    uint32_t need = (uint32_t)slot + 1, room = m->memo_room;
    OAS_TRY(grow(m, &m->memo, &m->memo_room, room, need));
    for (uint32_t i = room; i < m->memo_room; i++)
        m->memo[i] = NO_NODE;
    m->memo[slot] = m->stack[m->height - 1];
    if (m->memo_count < need)
        m->memo_count = need;
    return OASIS_OK;
}

static oasis_status recall(machine *m, uint64_t slot)
{
    if (slot >= m->memo_count || m->memo[slot] == NO_NODE)
        return damaged(m, "recalls a value that was never kept");
    return push(m, m->memo[slot]);
}

/* BINPERSID: ("storage", type, key, location, number of values), before PyTorch 1.6 with None for "no view" behind it. */
static oasis_status storage(machine *m)
{
    uint32_t index, made;
    OAS_TRY(pop(m, &index));
    const pickle_node *t = node_of(m, index), *n = m->out->node;
    bool no_view = t->kind == OAS_PICKLE_TUPLE && t->count == 6 && n[t->item[5]].kind == OAS_PICKLE_NONE;
    if (t->kind != OAS_PICKLE_TUPLE || (t->count != 5 && !no_view))
        return damaged(m, "a reference that is no tuple of five");
    const pickle_node *tag = &n[t->item[0]], *type = &n[t->item[1]], *key = &n[t->item[2]], *count = &n[t->item[4]];
    if (tag->kind != OAS_PICKLE_TEXT || tag->length != 7 || memcmp(tag->text, "storage", 7) != 0)
        return damaged(m, "a reference to something else than a storage");
    if (type->kind != OAS_PICKLE_GLOBAL || globals[type->number].id != STORAGE_TYPES)
        return damaged(m, "a storage whose type is none");
    if (key->kind != OAS_PICKLE_TEXT)
        return damaged(m, "a storage whose key is no text");
    if (count->kind != OAS_PICKLE_NUMBER || count->number < 0)
        return damaged(m, "a storage whose number of values is none");
    pickle_node s = {.kind = OAS_PICKLE_STORAGE, .dtype = globals[type->number].dtype, .number = count->number};
    s.text = key->text;
    s.length = key->length;
    OAS_TRY(make(m, s.kind, &made));
    *node_of(m, made) = s;
    return push(m, made);
}

/* _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata]) */
static oasis_status rebuild_tensor(machine *m, const pickle_node *args)
{
    const pickle_node *n = m->out->node;
    if (args->count < 6 || args->count > 7)
        return damaged(m, "a tensor made from a wrong number of values");
    uint32_t item[3] = {args->item[0], args->item[2], args->item[3]}, index;
    const pickle_node *offset = &n[args->item[1]];
    if (n[item[0]].kind != OAS_PICKLE_STORAGE)
        return damaged(m, "a tensor made from something else than a storage");
    if (offset->kind != OAS_PICKLE_NUMBER || offset->number < 0)
        return damaged(m, "a tensor whose offset is no whole number");
    if (n[item[1]].kind != OAS_PICKLE_TUPLE || n[item[2]].kind != OAS_PICKLE_TUPLE)
        return damaged(m, "a tensor whose sizes or strides are no tuple");
    int64_t first = offset->number;
    OAS_TRY(make(m, OAS_PICKLE_TENSOR, &index));
    node_of(m, index)->number = first;
    OAS_TRY(add_items(m, index, item, 3));
    return push(m, index);
}

/* OrderedDict(), filled afterwards, or OrderedDict([[key, value], ...]) as Python 2 writes it. */
static oasis_status ordered_dictionary(machine *m, const pickle_node *args)
{
    uint32_t index, list = args->count > 0 ? args->item[0] : NO_NODE;
    if (args->count > 1 || (args->count == 1 && node_of(m, list)->kind != OAS_PICKLE_LIST))
        return damaged(m, "an ordered dictionary made from something else than a list of pairs");
    OAS_TRY(make(m, OAS_PICKLE_DICT, &index));
    for (uint32_t i = 0; list != NO_NODE && i < node_of(m, list)->count; i++) {
        const pickle_node *pair = node_of(m, node_of(m, list)->item[i]);
        if ((pair->kind != OAS_PICKLE_LIST && pair->kind != OAS_PICKLE_TUPLE) || pair->count != 2)
            return damaged(m, "a pair of an ordered dictionary that is none");
        OAS_TRY(add_items(m, index, pair->item, 2));
    }
    return push(m, index);
}

/* REDUCE: Python would call; here each of the three names has a meaning of its own. */
static oasis_status reduce(machine *m)
{
    uint32_t args_index, callable;
    OAS_TRY(pop(m, &args_index));
    OAS_TRY(pop(m, &callable));
    const pickle_node *f = node_of(m, callable), *args = node_of(m, args_index);
    if (f->kind != OAS_PICKLE_GLOBAL || globals[f->number].id == STORAGE_TYPES)
        return damaged(m, "calls something that is no function of a state dict");
    if (args->kind != OAS_PICKLE_TUPLE)
        return damaged(m, "calls a function with something else than a tuple");
    switch (globals[f->number].id) {
    case REBUILD_TENSOR: return rebuild_tensor(m, args);
    case REBUILD_PARAMETER:
        if (args->count < 1 || node_of(m, args->item[0])->kind != OAS_PICKLE_TENSOR)
            return damaged(m, "a parameter made from something else than a tensor");
        return push(m, args->item[0]);
    default: return ordered_dictionary(m, args);
    }
}

/* BUILD on a dictionary sets attributes such as _metadata: of no interest. */
static oasis_status build(machine *m)
{
    uint32_t state;
    OAS_TRY(pop(m, &state));
    if (m->height <= floor_of(m) || node_of(m, m->stack[m->height - 1])->kind != OAS_PICKLE_DICT)
        return damaged(m, "sets attributes of something else than a dictionary");
    return OASIS_OK;
}

/* SETITEMS, APPENDS: everything above the mark goes into the container below it. */
static oasis_status fill(machine *m, pickle_kind kind)
{
    const uint32_t *item;
    uint32_t n;
    OAS_TRY(pop_to_mark(m, &item, &n));
    if (m->height <= floor_of(m) || node_of(m, m->stack[m->height - 1])->kind != kind)
        return damaged(m, kind == OAS_PICKLE_DICT ? "sets items of something else than a dictionary"
                                                  : "appends to something else than a list");
    if (kind == OAS_PICKLE_DICT && n % 2 != 0)
        return damaged(m, "sets a key without a value");
    return add_items(m, m->stack[m->height - 1], item, n);
}

/* SETITEM, APPEND: the same for one. */
static oasis_status fill_one(machine *m, pickle_kind kind, uint32_t n)
{
    uint32_t item[2];
    for (uint32_t i = n; i > 0; i--)
        OAS_TRY(pop(m, &item[i - 1]));
    if (m->height <= floor_of(m) || node_of(m, m->stack[m->height - 1])->kind != kind)
        return damaged(m, kind == OAS_PICKLE_DICT ? "sets an item of something else than a dictionary"
                                                  : "appends one to something else than a list");
    return add_items(m, m->stack[m->height - 1], item, n);
}

static oasis_status set_mark(machine *m)
{
    if (m->marks == OAS_PICKLE_MAX_NODES)
        return damaged(m, "more than 2^20 marks");
    OAS_TRY(grow(m, &m->mark, &m->mark_room, m->marks, m->marks + 1));
    m->mark[m->marks++] = m->height;
    return OASIS_OK;
}

static oasis_status tuple_instruction(machine *m)
{
    const uint32_t *item;
    uint32_t n;
    OAS_TRY(pop_to_mark(m, &item, &n));
    return push_tuple(m, item, n);
}

static oasis_status protocol(machine *m)
{
    unsigned version = (unsigned)oas_cursor_number(&m->c, 1);
    if (version < 2 || version > 5)
        return oas_fail(m->message, OASIS_E_UNSUPPORTED, "%s: pickle protocol %u, this program reads 2 to 5", m->where,
                        version);
    return OASIS_OK;
}

static oasis_status drop(machine *m)
{
    uint32_t node;
    return pop(m, &node);
}

/* FRAME and BINFLOAT: eight bytes that nothing here depends on. */
static oasis_status skip8(machine *m)
{
    oas_cursor_take(&m->c, 8);
    return OASIS_OK;
}

static oasis_status step(machine *m, unsigned instruction)
{
    cursor *c = &m->c;
    switch (instruction) {
    case 0x80: return protocol(m);
    case 0x95: return skip8(m);
    case '(': return set_mark(m);
    case '}': return push_new(m, OAS_PICKLE_DICT, 0);
    case ']': return push_new(m, OAS_PICKLE_LIST, 0);
    case ')': return push_new(m, OAS_PICKLE_TUPLE, 0);
    case 't': return tuple_instruction(m);
    case 0x85:
    case 0x86:
    case 0x87: return small_tuple(m, instruction - 0x84);
    case 'J': return push_new(m, OAS_PICKLE_NUMBER, (int32_t)(uint32_t)oas_cursor_number(c, 4));
    case 'K': return push_new(m, OAS_PICKLE_NUMBER, (int64_t)oas_cursor_number(c, 1));
    case 'M': return push_new(m, OAS_PICKLE_NUMBER, (int64_t)oas_cursor_number(c, 2));
    case 0x8a: return push_long(m);
    case 'G': OAS_TRY(skip8(m)); return push_new(m, OAS_PICKLE_REAL, 0);
    case 0x88: return push_new(m, OAS_PICKLE_TRUTH, 1);
    case 0x89: return push_new(m, OAS_PICKLE_TRUTH, 0);
    case 'N': return push_new(m, OAS_PICKLE_NONE, 0);
    case 'U': return push_text(m, oas_cursor_number(c, 1));
    case 'X': return push_text(m, oas_cursor_number(c, 4));
    case 0x8c: return push_text(m, oas_cursor_number(c, 1));
    case 0x8d: return push_text(m, oas_cursor_number(c, 8));
    case 'c': return global_instruction(m);
    case 0x93: return stack_global(m);
    case 'q': return keep(m, oas_cursor_number(c, 1));
    case 'r': return keep(m, oas_cursor_number(c, 4));
    case 'h': return recall(m, oas_cursor_number(c, 1));
    case 'j': return recall(m, oas_cursor_number(c, 4));
    case 0x94: return keep(m, m->memo_count);
    case 'Q': return storage(m);
    case 'R': return reduce(m);
    case 'b': return build(m);
    case 's': return fill_one(m, OAS_PICKLE_DICT, 2);
    case 'u': return fill(m, OAS_PICKLE_DICT);
    case 'a': return fill_one(m, OAS_PICKLE_LIST, 1);
    case 'e': return fill(m, OAS_PICKLE_LIST);
    case '0': return drop(m);
    default:
        return oas_fail(m->message, OASIS_E_UNSUPPORTED,
                        "%s: byte %zu: instruction 0x%02x is no part of a dictionary of tensors; nothing was executed",
                        m->where, m->at, instruction);
    }
}

static oasis_status run(machine *m)
{
    for (;;) {
        m->at = m->c.at;
        unsigned instruction = (unsigned)oas_cursor_number(&m->c, 1);
        if (m->c.failed)
            return damaged(m, "ends without its last instruction");
        if (instruction == '.')
            break;
        OAS_TRY(step(m, instruction));
        if (m->c.failed)
            return damaged(m, "an instruction that goes beyond the end");
    }
    if (m->marks || m->height != 1)
        return oas_fail(m->message, OASIS_E_FORMAT, "%s: stands for %u values, expected one", m->where, m->height);
    m->out->root = m->stack[0];
    return OASIS_OK;
}

oasis_status oas_pickle_read(pickle *p, const unsigned char *data, size_t size, const char *where,
                             oasis_message *message)
{
    *p = (pickle){0};
    machine m = {.out = p, .c = {.data = data, .size = size}, .where = where, .message = message};
    if (size > OAS_PICKLE_MAX_BYTES)
        return oas_fail(message, OASIS_E_FORMAT, "%s: %zu bytes, expected at most %d", where, size,
                        OAS_PICKLE_MAX_BYTES);
    oasis_status status = run(&m);
    p->used = m.c.at;
    oas_free(m.stack);
    oas_free(m.memo);
    oas_free(m.mark);
    return status;
}

void oas_pickle_free(pickle *p)
{
    for (uint32_t i = 0; i < p->nodes; i++)
        oas_free(p->node[i].item);
    oas_free(p->node);
    *p = (pickle){0};
}

const pickle_node *oas_pickle_get(const pickle *p, const pickle_node *dict, const char *key)
{
    const pickle_node *found = NULL;
    size_t length = strlen(key);
    for (uint32_t i = 0; i + 1 < dict->count; i += 2) {
        const pickle_node *k = &p->node[dict->item[i]];
        if (k->kind == OAS_PICKLE_TEXT && k->length == length && memcmp(k->text, key, length) == 0)
            found = &p->node[dict->item[i + 1]];
    }
    return found;
}
