/* The emulation of tests/cuda/emulator.h: fibers, meetings, launches. */
#include "base/status.h"

#include "cuda/emulator.h"
#include "cuda/emulated/heap.h"

#include <mutex>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unordered_map>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

extern "C" unsigned char __start_oas_shared[] __attribute__((weak, visibility("hidden")));
extern "C" unsigned char __stop_oas_shared[] __attribute__((weak, visibility("hidden")));

namespace emulated {

place *now;

namespace {

enum { MOST_THREADS = 1024, STACK_BYTES = 1 << 20, WARP = 32, MOST_SHARED = 227 << 10, USUAL_SHARED = 48 << 10 };
enum state { FREE, READY, AT_WARP, AT_BLOCK, RETURNED };

struct fiber {
    ucontext_t context;
    void *pointer; /* of the stack, where x86-64 switches by itself */
    void *sanitizer;
    const void *stack;
    size_t stack_bytes;
    state is;
    place at;
    int index, line;
    lane_call *call;
};

struct {
    std::mutex lock;
    fiber fibers[MOST_THREADS];
    fiber main;
    fiber *running;
    int made;
    void (*run)(void *);
    void *arg;
    std::unordered_map<const void *, size_t> allowed;
} machine;

[[noreturn]] void fail(const char *what, const fiber *f)
{
    fprintf(stderr, "emulated CUDA: %s: block (%u,%u,%u) thread (%u,%u,%u), line %d\n", what, f->at.block.x, f->at.block.y,
            f->at.block.z, f->at.thread.x, f->at.thread.y, f->at.thread.z, f->line);
    abort();
}

/* ---- switching ----------------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
extern "C" void oas_emulated_switch(void **save, void *to);
asm(R"(
.text
.local oas_emulated_switch
.type oas_emulated_switch, @function
oas_emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size oas_emulated_switch, .-oas_emulated_switch
)");
#endif

#if defined(__SANITIZE_ADDRESS__)
/* Tells the sanitizer that this fiber runs now; fibers are entered from the launching thread's stack only. */
void arrived(void *own)
{
    const void *stack;
    size_t bytes;
    __sanitizer_finish_switch_fiber(own, &stack, &bytes);
    if (machine.running != &machine.main) {
        machine.main.stack = stack;
        machine.main.stack_bytes = bytes;
    }
}
#endif

void change(fiber *from, fiber *to)
{
    machine.running = to;
    now = &to->at;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from->sanitizer, to->stack, to->stack_bytes);
#endif
#if defined(__x86_64__)
    oas_emulated_switch(&from->pointer, to->pointer);
#else
    swapcontext(&from->context, &to->context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    arrived(from->sanitizer);
#endif
}

/* A fiber runs one thread after the other. */
void fiber_main()
{
#if defined(__SANITIZE_ADDRESS__)
    arrived(NULL);
#endif
    for (;;) {
        fiber *self = machine.running;
        machine.run(machine.arg);
        self->is = RETURNED;
        change(self, &machine.main);
    }
}

void make_fiber(fiber *f, int index)
{
    f->index = index;
    void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED)
        fail("no memory for a thread", f);
    mprotect(stack, 4096, PROT_NONE);
    f->stack = stack;
    f->stack_bytes = STACK_BYTES;
#if defined(__x86_64__)
    void **top = (void **)((char *)stack + STACK_BYTES) - 1;
    *top = NULL; /* where fiber_main would return to */
    *--top = (void *)fiber_main;
    f->pointer = top - 6;
    memset(f->pointer, 0, 6 * sizeof(void *));
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = stack;
    f->context.uc_stack.ss_size = STACK_BYTES;
    f->context.uc_link = NULL;
    makecontext(&f->context, fiber_main, 0);
#endif
}

/* ---- meetings of a warp ---------------------------------------------------------------------------------------------------- */

uint16_t half_of(const uint32_t *words, int i)
{
    return (uint16_t)(words[i / 2] >> (i % 2 * 16));
}

float value_of(const uint32_t *words, int i)
{
    return __uint_as_float((uint32_t)half_of(words, i) << 16);
}

void load_matrices(lane_call *const *call, bool trans)
{
    for (int m = 0; m < 4; m++) {
        uint16_t value[8][8];
        for (int row = 0; row < 8; row++)
            memcpy(value[row], call[m * 8 + row]->row, 16);
        for (int l = 0; l < WARP; l++) {
            int row = l / 4, column = 2 * (l % 4);
            uint16_t low = trans ? value[column][row] : value[row][column];
            uint16_t high = trans ? value[column + 1][row] : value[row][column + 1];
            call[l]->words[m] = low | (uint32_t)high << 16;
        }
    }
}

void multiply(lane_call *const *call)
{
    float a[16][16], b[16][8];
    for (int l = 0; l < WARP; l++) {
        int g = l / 4, t = l % 4;
        const uint32_t *w = call[l]->words;
        for (int k = 0; k < 2; k++) {
            a[g][2 * t + k] = value_of(w, k);
            a[g + 8][2 * t + k] = value_of(w, 2 + k);
            a[g][2 * t + 8 + k] = value_of(w, 4 + k);
            a[g + 8][2 * t + 8 + k] = value_of(w, 6 + k);
            b[2 * t + k][g] = value_of(w + 4, k);
            b[2 * t + 8 + k][g] = value_of(w + 4, 2 + k);
        }
    }
    for (int l = 0; l < WARP; l++) {
        int g = l / 4, t = l % 4;
        for (int i = 0; i < 4; i++) {
            int row = g + i / 2 * 8, column = 2 * t + i % 2;
            float sum = call[l]->c[i];
            for (int k = 0; k < 16; k++)
                sum += a[row][k] * b[k][column];
            call[l]->c[i] = sum;
        }
    }
}

void complete(fiber *warp)
{
    lane_call *call[WARP];
    for (int l = 0; l < WARP; l++) {
        call[l] = warp[l].call;
        warp[l].is = READY;
        if (call[l]->kind != call[0]->kind || call[l]->line != call[0]->line)
            fail("the lanes of a warp meet at different places", &warp[l]);
    }
    switch (call[0]->kind) {
    case SHUFFLE:
        for (int l = 0; l < WARP; l++)
            call[l]->result = call[call[l]->source & (WARP - 1)]->value;
        break;
    case BALLOT:
        for (int l = 0; l < WARP; l++) {
            call[l]->result = 0;
            for (int k = 0; k < WARP; k++)
                call[l]->result |= call[k]->value << k;
        }
        break;
    case LOAD_MATRICES: load_matrices(call, false); break;
    case LOAD_MATRICES_TRANS: load_matrices(call, true); break;
    case MULTIPLY: multiply(call); break;
    case SYNC_WARP:
    case SYNC_THREADS:
    case ALL: break;
    }
}

/* Runs a warp until its lanes wait for the block or have returned. */
void run_warp(fiber *warp, int lanes, bool backwards)
{
    for (;;) {
        int at_warp = 0;
        for (int i = 0; i < lanes; i++) {
            fiber *f = &warp[backwards ? lanes - 1 - i : i];
            if (f->is == READY)
                change(&machine.main, f);
        }
        for (int i = 0; i < lanes; i++)
            at_warp += warp[i].is == AT_WARP;
        if (at_warp == 0)
            return;
        for (int i = 0; i < lanes; i++)
            if (warp[i].is != AT_WARP)
                fail(warp[i].is == RETURNED ? "a lane has returned that its warp waits for"
                                            : "a lane waits for the block, others for the warp", &warp[i]);
        if (lanes != WARP)
            fail("a warp of fewer than 32 threads meets", &warp[0]);
        complete(warp);
    }
}

void run_block(int threads, bool backwards)
{
    int warps = (threads + WARP - 1) / WARP;
    for (;;) {
        int waiting = 0, returned = 0;
        for (int i = 0; i < warps; i++) {
            int w = backwards ? warps - 1 - i : i;
            run_warp(&machine.fibers[w * WARP], threads - w * WARP < WARP ? threads - w * WARP : WARP, backwards);
        }
        for (int i = 0; i < threads; i++) {
            waiting += machine.fibers[i].is == AT_BLOCK;
            returned += machine.fibers[i].is == RETURNED;
        }
        if (returned == threads)
            return;
        for (int i = 0; i < threads; i++) {
            fiber *f = &machine.fibers[i];
            if (waiting != threads && f->is == RETURNED)
                fail("a thread has returned that its block waits for at __syncthreads", f);
            if (f->line != machine.fibers[0].line)
                fail("the threads of a block meet at different __syncthreads", f);
            f->is = READY;
        }
    }
}

void poison(unsigned char *dynamic, size_t bytes)
{
    if (__start_oas_shared)
        memset(__start_oas_shared, 0xff, (size_t)(__stop_oas_shared - __start_oas_shared));
    memset(dynamic, 0xff, bytes);
}

} // namespace

void meet_block(int line)
{
    fiber *self = machine.running;
    self->is = AT_BLOCK;
    self->line = line;
    change(self, &machine.main);
}

void meet_warp(lane_call *call)
{
    fiber *self = machine.running;
    self->is = AT_WARP;
    self->line = call->line;
    self->call = call;
    change(self, &machine.main);
}

int lane()
{
    return machine.running->index % WARP;
}

bool allow_shared(const void *kernel, size_t bytes)
{
    std::lock_guard<std::mutex> guard(machine.lock);
    const char *less = getenv("OASIS_EMULATED_SHARED"); /* bytes of a smaller chip */
    if (bytes > (less ? (size_t)atol(less) : (size_t)MOST_SHARED))
        return false;
    machine.allowed[kernel] = bytes;
    return true;
}

static void check_launch(dim3 blocks, dim3 threads, size_t shared_bytes, const void *kernel)
{
    fiber none = {};
    none.at.block = blocks;
    none.at.thread = threads;
    size_t n = (size_t)threads.x * threads.y * threads.z;
    if (n < 1 || n > MOST_THREADS)
        fail("a launch of so many threads is refused", &none);
    if (blocks.x < 1 || blocks.y < 1 || blocks.z < 1 || blocks.x > 0x7fffffffu || blocks.y > 65535 || blocks.z > 65535)
        fail("a launch of so many blocks is refused", &none);
    if (shared_bytes > USUAL_SHARED && machine.allowed[kernel] < shared_bytes)
        fail("a launch with more dynamic shared memory than OAS_ALLOW_SHARED said", &none);
}

void launch(dim3 blocks, dim3 threads, size_t shared_bytes, const void *kernel, void (*run)(void *), void *arg)
{
    std::lock_guard<std::mutex> guard(machine.lock);
    check_launch(blocks, threads, shared_bytes, kernel);
    const char *order = getenv("OASIS_EMULATED_ORDER");
    bool backwards = order && strcmp(order, "backwards") == 0;
    int n = (int)(threads.x * threads.y * threads.z);
    for (; machine.made < n; machine.made++)
        make_fiber(&machine.fibers[machine.made], machine.made);
    void *dynamic = NULL;
    if (posix_memalign(&dynamic, 128, shared_bytes ? shared_bytes : 1) != 0)
        abort();
    machine.run = run;
    machine.arg = arg;
    oas_emulated_heap_open();
    uint64_t count = (uint64_t)blocks.x * blocks.y * blocks.z;
    for (uint64_t b = 0; b < count; b++) {
        uint64_t at = backwards ? count - 1 - b : b;
        poison((unsigned char *)dynamic, shared_bytes);
        for (int i = 0; i < n; i++) {
            fiber *f = &machine.fibers[i];
            unsigned t = (unsigned)i;
            f->at.thread = dim3(t % threads.x, t / threads.x % threads.y, t / threads.x / threads.y);
            f->at.block = dim3((unsigned)(at % blocks.x), (unsigned)(at / blocks.x % blocks.y),
                               (unsigned)(at / blocks.x / blocks.y));
            f->at.threads = threads;
            f->at.blocks = blocks;
            f->at.dynamic = (unsigned char *)dynamic;
            f->is = READY;
            f->line = 0;
        }
        run_block(n, backwards);
    }
    oas_emulated_heap_close();
    free(dynamic);
}

} // namespace emulated
