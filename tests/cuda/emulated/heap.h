/*
 * The memory of the emulated GPU.  Each block has pages of its own, with one behind it that nothing may touch; blocks can
 * be read and written only between open and close, so that a host function that looks at device memory ends the program.
 * Under the address sanitizer the bytes behind a block are poisoned.
 */
#ifndef OAS_TESTS_CUDA_EMULATED_HEAP_H
#define OAS_TESTS_CUDA_EMULATED_HEAP_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Opens the blocks for a kernel or a copy; calls nest. */
void oas_emulated_heap_open(void);
void oas_emulated_heap_close(void);

/* Filled with bytes 0xff, large blocks at their front; NULL when the emulated GPU's memory is used up. */
void *oas_emulated_heap_take(size_t bytes);
void oas_emulated_heap_give(void *block);
void oas_emulated_heap_use(size_t *free_bytes, size_t *total_bytes);

#ifdef __cplusplus
}
#endif
#endif
