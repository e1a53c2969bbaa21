/* fibers.cc - the threads of a block as fibers.
 *
 * Fibers are made once and used by every block: each waits for a block that has a thread for it. They
 * change by the compiler's own longjmp, which costs nanoseconds. Whoever waits for his warp gives way to the next
 * lane, else to the next fiber in the ring; turns and turns without any change are a deadlock, which
 * ends the program. What a warp does together the last lane to arrive does for all (meet_warp). Blocks come in another
 * order at each launch. Shared memory behind what was asked for must stay as it was. */
#include "tests/emulation/device.h"
#include "tests/emulation/races.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

/* What `extern __shared__` arrays are. */
thread_local __attribute__((aligned(1024))) char shared[228 << 10];

namespace emulation
{

/* ---- fibers -------------------------------------------------------------------------------------- */

enum { MOST_THREADS = 1024, WARP = 32, BARRIERS = 16, PATIENCE = 10000 };

/* Stacks begin at different places of their pages, so that caches have room for the tops of all. */
enum { STACK_BYTES = 256 << 10, STACK_SHIFT = 9 << 6, STACK_SHIFTS = 113 };

using place = void *[5]; /* of __builtin_setjmp */

struct fiber {
    place at;
    uint3 index;
    bool made, running;
};

/* Threads that meet; they may meet again while some have not left yet, but not twice. */
struct meeting {
    uint32_t n_here, round;
    place_of where;            /* of a warp: for what those have come who are here */
    races::knowledge known[2]; /* to who came, where a meeting orders memory */
    alignas(16) char slots[2][WARP * SLOT];
};

static fiber fibers[MOST_THREADS];
static uint32_t current, n_running, n_fibers;
static uint32_t hopeless; /* turns since something changed */
static place whole;       /* who runs the block */
static const std::function<void()> *thread_body;
static meeting warps[MOST_THREADS / WARP], blocks[BARRIERS];

static void life()
{
    for (;;) {
        (*thread_body)();
        fibers[current].running = false;
        n_running--;
        give_way(true); /* and comes back with the next block */
    }
}

/* Who has asked for a place must have returned to nobody when he is jumped to: so not in his own function. */
__attribute__((noinline)) static void enter(uint32_t i)
{
    static ucontext_t fresh, unused;
    current = i;
    threadIdx = fibers[i].index;
    races::act(i);
    if (fibers[i].made)
        __builtin_longjmp(fibers[i].at, 1);
    fibers[i].made = true;
    getcontext(&fresh);
    fresh.uc_stack.ss_size = STACK_BYTES - i % STACK_SHIFTS * STACK_SHIFT;
    fresh.uc_stack.ss_sp = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fresh.uc_stack.ss_sp == MAP_FAILED)
        abort();
    makecontext(&fresh, life, 0);
    swapcontext(&unused, &fresh);
}

__attribute__((noinline)) static void leave_block()
{
    __builtin_longjmp(whole, 1);
}

/* To the next one in the ring of the n fibers from `first` on. */
static void give_way_among(uint32_t first, uint32_t n, bool hopeful)
{
    hopeless = hopeful ? 0 : hopeless + 1;
    if (hopeless > PATIENCE * n_fibers) {
        fprintf(stderr, "emulation: block %u: %u of %u threads wait for ever\n", blockIdx.x,
                n_running, n_fibers);
        abort();
    }
    if (__builtin_setjmp(fibers[current].at) != 0)
        return;
    if (n_running == 0)
        leave_block();
    uint32_t next = current;
    do
        next = next + 1 < first + n ? next + 1 : first;
    while (!fibers[next].running);
    enter(next);
}

void give_way(bool hopeful)
{
    give_way_among(0, n_fibers, hopeful);
}

/* n fibers, of the n_there from `first` on. orders: what each wrote before is seen by all behind. */
static void meet(meeting &m, uint32_t n, uint32_t first, uint32_t n_there, bool orders)
{
    const uint32_t round = m.round;
    if (orders)
        races::release(&m.known[round % 2], m.n_here == 0);
    if (++m.n_here == n) {
        m.n_here = 0;
        m.round++;
        hopeless = 0;
    }
    while (m.round == round)
        give_way_among(first, n_there, false);
    if (orders)
        races::acquire(m.known[round % 2]);
}

void meet_block(uint32_t barrier, uint32_t n_threads)
{
    meet(blocks[barrier], n_threads, 0, n_fibers, true);
}

char *warp_slot()
{
    meeting &m = warps[current / WARP];
    return m.slots[m.round % 2] + current % WARP * SLOT;
}

void whole_warps_only(place_of where, uint32_t mask)
{
    fprintf(stderr, "emulation: %s:%d: lanes %08x: warps are emulated whole\n", where.file,
            where.line, mask);
    abort();
}

static char *meet_lanes(place_of where, void (*together)(char *slots), bool orders)
{
    meeting &m = warps[current / WARP];
    char *slots = m.slots[m.round % 2];
    if (m.n_here == 0)
        m.where = where;
    if (m.where.line != where.line ||
        (m.where.file != where.file && strcmp(m.where.file, where.file) != 0)) {
        fprintf(stderr, "emulation: lanes of a warp meet at %s:%d and at %s:%d\n", m.where.file,
                m.where.line, where.file, where.line);
        abort();
    }
    if (together != NULL && m.n_here + 1 == WARP)
        together(slots);
    meet(m, WARP, current / WARP * WARP, WARP, orders);
    return slots;
}

const char *meet_warp(place_of where, void (*together)(char *slots))
{
    return meet_lanes(where, together, false);
}

void order_warp()
{
    meet_lanes({"__syncwarp", 0}, NULL, true);
}

void move(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
}

static void run_block(uint32_t number, size_t shared_bytes, const std::function<void()> &thread)
{
    n_fibers = n_running = blockDim.x * blockDim.y * blockDim.z;
    thread_body = &thread;
    hopeless = 0;
    static size_t used = sizeof(shared); /* by the block before; behind it is 0xff */
    memset(shared, 0xff, std::max(used, shared_bytes));
    used = shared_bytes;
    for (uint32_t i = 0; i < n_fibers; i++) {
        fibers[i].running = true;
        fibers[i].index = {i % blockDim.x, i / blockDim.x % blockDim.y,
                           i / blockDim.x / blockDim.y};
    }
    races::begin_block(number, n_fibers);
    if (__builtin_setjmp(whole) == 0)
        enter(0);
    races::end_block();
    for (meeting &m : warps)
        if (m.n_here != 0)
            abort(); /* lanes ended while others waited for them */
    const char *behind = shared + shared_bytes;
    const size_t n_behind = sizeof(shared) - shared_bytes;
    if (n_behind > 0 && (*behind != (char)0xff || memcmp(behind, behind + 1, n_behind - 1) != 0)) {
        fprintf(stderr, "emulation: block %u wrote behind its %zu bytes of shared memory\n",
                blockIdx.x, shared_bytes);
        abort();
    }
}

/* Not a failed test, as cmocka would have it: a GPU's kernel does not come back from there. */
static void outside(int)
{
    static const char text[] = "emulation: a kernel touches memory that was not taken\n";
    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    (void)signal(SIGSEGV, SIG_DFL);
}

void run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &thread)
{
    static uint64_t random = 1;
    const uint32_t n = grid.x * grid.y * grid.z;
    std::vector<uint32_t> order(n);
    const auto usual = signal(SIGSEGV, outside);
    gridDim = grid;
    blockDim = block;
    for (uint32_t i = 0; i < n; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        const uint32_t j = (uint32_t)(random >> 32) % (i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (uint32_t i : order) {
        blockIdx = {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
        run_block(i, shared_bytes, thread);
    }
    (void)signal(SIGSEGV, usual);
}

} // namespace emulation
