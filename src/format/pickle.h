/*
 * The pickle of a PyTorch state dict, read as data.  A stack machine that knows the few instructions and the few names
 * that torch.save uses for tensors in dictionaries; anything else is refused by name, and nothing is ever called.
 *
 *     pickle bytes  ->  nodes: texts, numbers, tuples, lists, dictionaries, storages, tensors
 *
 * Each instruction makes at most one node, and nodes, stack and memo are capped, so that a file costs memory in
 * proportion to its size only.
 */
#ifndef OAS_FORMAT_PICKLE_H
#define OAS_FORMAT_PICKLE_H

#include "format/stored.h"
#include "format/weight_file_build.h"

enum {
    OAS_PICKLE_MAX_BYTES = 64 << 20,
    OAS_PICKLE_MAX_NODES = 1 << 20, /* also of the stack, the memo, and the items of all containers together / 4 */
};

typedef enum pickle_kind {
    OAS_PICKLE_NONE,
    OAS_PICKLE_TRUTH,   /* number: 0 or 1 */
    OAS_PICKLE_NUMBER,  /* number */
    OAS_PICKLE_REAL,    /* a fraction; its value is of no interest */
    OAS_PICKLE_TEXT,    /* text, length */
    OAS_PICKLE_TUPLE,   /* item[count] */
    OAS_PICKLE_LIST,    /* item[count] */
    OAS_PICKLE_DICT,    /* item[count]: key, value, key, value, ... */
    OAS_PICKLE_GLOBAL,  /* number: one of the known names */
    OAS_PICKLE_STORAGE, /* dtype; text, length: its key; number: of values */
    OAS_PICKLE_TENSOR   /* item[0]: storage; item[1], item[2]: tuples of sizes and strides; number: offset in values */
} pickle_kind;

typedef struct pickle_node {
    pickle_kind kind;
    stored_dtype dtype;
    int64_t number;
    const char *text; /* in the pickle, not terminated */
    size_t length;
    uint32_t *item; /* indices of nodes */
    uint32_t count, room;
} pickle_node;

typedef struct pickle {
    pickle_node *node;
    uint32_t nodes, node_room;
    uint32_t root; /* what the pickle stands for */
    size_t used;   /* its bytes: others may follow */
} pickle;

/*
 * Reads a pickle.  The nodes point into `data`.  Always freed with oas_pickle_free, also after failure.
 *   where  names it in messages ("FILE: archive/data.pkl")
 * Fails with OASIS_E_FORMAT (damaged: the sentence names the byte), OASIS_E_UNSUPPORTED (an instruction or a name that
 * is not one of tensors in dictionaries), OASIS_E_MEMORY.
 */
oasis_status oas_pickle_read(pickle *p, const unsigned char *data, size_t size, const char *where,
                             oasis_message *message);
void oas_pickle_free(pickle *p);

/* The value of a text key in a dictionary: the last one set, or NULL. */
const pickle_node *oas_pickle_get(const pickle *p, const pickle_node *dict, const char *key);

#endif
