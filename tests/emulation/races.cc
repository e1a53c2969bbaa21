/* races.cc - clocks, and what the compiler calls for each access.
 *
 * Of every 4 bytes the last accesses are kept that no later one makes superfluous, up to SLOTS; where there are
 * more, one of them goes by chance, as in ThreadSanitizer (Serebryany and Iskhodzhanov 2009). So a race is missed now and then
 * at one place, and not at all of many. Shared memory needs no cleaning between blocks: those before are of no interest. */
#include "tests/emulation/races.h"

#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <unordered_map>

namespace emulation
{
namespace races
{

bool watching;

/* ---- where everything is ------------------------------------------------------------------------- */

enum { WORD = 4, SLOTS = 4, MOST_SHOWN = 20 };
enum kind : uint8_t { NONE, READ, WRITE, ATOMIC };

/* An access: by a thread of a unit, which is a block, or a copy of a stream, or the host (0). */
struct slot {
    uint32_t unit, clock;
    uint32_t place; /* of the code */
    uint16_t thread;
    uint8_t bytes; /* of the word, a bit each */
    kind what;
};
using cell = slot[SLOTS];

/* Memory and its cells: of the device; and of a thread that runs blocks, or has us started, whose thread-local
 * variables are their shared memory. Other threads work for the host, which waits for them. */
struct window {
    uintptr_t begin;
    size_t bytes;
    cell *cells;
};
static window device;
static thread_local window shared;
static uintptr_t code;

static const size_t DEVICE_BYTES = (size_t)1 << 38;

static size_t taken;
static std::unordered_map<void *, size_t> sizes;

static void *reserve(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        fprintf(stderr, "emulation: no address space of %zu bytes: ulimit -v?\n", bytes);
        abort();
    }
    return memory;
}

static void place(window *w, void *memory, size_t bytes)
{
    *w = {(uintptr_t)memory, bytes, (cell *)reserve(bytes / WORD * sizeof(cell))};
}

static int look_at_program(struct dl_phdr_info *info, size_t, void *)
{
    code = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_TLS)
            place(&shared, info->dlpi_tls_data, (info->dlpi_phdr[i].p_memsz + 7) / 8 * 8);
    return 1; /* the program itself comes first */
}

static void start()
{
    if (watching)
        return;
    watching = true;
    dl_iterate_phdr(look_at_program, NULL);
    place(&device, reserve(DEVICE_BYTES), DEVICE_BYTES);
}

void *take(size_t bytes)
{
    enum { ALIGNMENT = 256 };
    if (bytes > DEVICE_BYTES - taken)
        return NULL;
    const size_t room = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *memory = (void *)(device.begin + taken);
    taken += room;
    sizes[memory] = bytes;
    return memory;
}

/* Whole pages: neighbours are still in use. */
static void forget(uintptr_t begin, size_t bytes)
{
    const uintptr_t page = 4096, first = (begin + page - 1) / page * page;
    const uintptr_t end = (begin + bytes) / page * page;
    if (first < end)
        madvise((void *)first, end - first, MADV_DONTNEED);
}

void give(void *memory)
{
    const uintptr_t begin = (uintptr_t)memory;
    const auto size = sizes.find(memory);
    if (size == sizes.end())
        return;
    const size_t bytes = size->second;
    sizes.erase(size);
    forget(begin, bytes);
    forget((uintptr_t)device.cells[(begin - device.begin) / WORD], bytes / WORD * sizeof(cell));
}

/* ---- who knows what ------------------------------------------------------------------------------ */

struct unit {
    uint32_t block, n_threads, stream, job;
};
enum : uint32_t { NO_BLOCK = UINT32_MAX };
static std::vector<unit> units(1);

static history host(1, 1); /* [0]: its clock */
static uint32_t n_streams = 1;

/* The job that runs, and its block. */
static struct {
    uint32_t stream, job;
    history before, after; /* known to threads that have not waited for kernels ahead; that have */
    bool waited;           /* any thread has */
} job;
static bool in_block;
static uint32_t n_threads, me; /* of the block: who acts */
static std::vector<knowledge> threads;
static std::vector<uint32_t> copy_clocks; /* of the group that is open */
static struct {
    std::unordered_map<const void *, knowledge> arriving, done, counters;
    std::unordered_map<const void *, const void *> copied; /* to, from */
} block;
static std::unordered_map<const void *, far_blocks> counters; /* of the launch */

template <class vector>
static void join(vector *to, const vector &from)
{
    if (to->size() < from.size())
        to->resize(from.size());
    auto *a = to->data();
    const auto *b = from.data();
    for (size_t i = 0, n = from.size(); i < n; i++)
        a[i] = std::max(a[i], b[i]);
}

static void join_far(far_blocks *to, const far_blocks &from)
{
    static far_blocks last_to, last_from, last; /* the threads of a block all ask for the same */
    if (*to == NULL) {
        *to = from;
        return;
    }
    if (*to != last_to || from != last_from) {
        auto both = std::make_shared<std::map<uint32_t, std::vector<uint32_t>>>(**to);
        for (const auto &other : *from)
            join(&(*both)[other.first], other.second);
        last_to = *to;
        last_from = from;
        last = both;
    }
    *to = last;
}

/* Clocks of copies are there where a thread has waited for some. */
static bool covers(const std::vector<uint32_t> &clocks, const slot &s)
{
    return s.thread < clocks.size() && s.clock <= clocks[s.thread];
}

static uint32_t *clock_of_copies(std::vector<uint32_t> *clocks)
{
    clocks->resize(2 * n_threads + 1);
    return &(*clocks)[n_threads + 1 + me];
}

/* Units of other launches of which that is known, by their last bits: to threads that have not waited for the kernels
 * ahead, and to those that have. */
static uint32_t done[2][1024];

static bool is_done(const slot &s)
{
    const unit &u = units[s.unit];
    const history *known = &host;
    uint32_t *seen = NULL;
    if (in_block) {
        const knowledge &mine = threads[me];
        if (s.unit == units.size() - 1)
            return covers(mine.own, s);
        const bool has_waited = mine.own[n_threads] != 0;
        seen = &done[has_waited][s.unit % 1024];
        if (s.unit != 0 && *seen == s.unit)
            return true;
        if (u.stream == job.stream && u.job == job.job) {
            if (mine.far == NULL)
                return false;
            const auto of = mine.far->find(s.unit);
            return of != mine.far->end() && covers(of->second, s);
        }
        known = has_waited ? &job.after : &job.before;
    }
    const uint32_t number = s.unit == 0 ? s.clock : u.job;
    const bool is = u.stream < known->size() && number <= (*known)[u.stream];
    if (is && seen != NULL)
        *seen = s.unit;
    return is;
}

/* ---- reports ------------------------------------------------------------------------------------- */

static std::set<std::pair<uint32_t, uint32_t>> found; /* places */

uint32_t take_found()
{
    const uint32_t n = (uint32_t)found.size();
    found.clear();
    return n;
}

static void describe(const slot &s, bool earlier)
{
    static const char *const what[2][4] = {{"", "reads", "writes", "counts"},
                                           {"", "has read", "has written", "has counted"}};
    char program[4096], command[4300], line[1024];
    if (s.unit == 0)
        fprintf(stderr, "    the host ");
    else if (units[s.unit].block == NO_BLOCK)
        fprintf(stderr, "    a copy, job %u of stream %u, ", units[s.unit].job,
                units[s.unit].stream);
    else
        fprintf(stderr, "    a kernel, job %u of stream %u, block %u, %sthread %u ",
                units[s.unit].job, units[s.unit].stream, units[s.unit].block,
                s.thread > units[s.unit].n_threads ? "a copy of " : "",
                s.thread % (units[s.unit].n_threads + 1));
    fprintf(stderr, "%s\n", what[earlier][s.what]);
    const ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
    program[n > 0 ? n : 0] = '\0';
    snprintf(command, sizeof(command), "addr2line -Cfpi -e '%s' 0x%x", program, s.place - 1);
    FILE *lines = popen(command, "r");
    while (lines != NULL && fgets(line, sizeof(line), lines) != NULL)
        fprintf(stderr, "        %s", line);
    if (lines != NULL)
        pclose(lines);
}

static void leave()
{
    if (!found.empty()) {
        fprintf(stderr, "emulation: %zu pairs of places race\n", found.size());
        fflush(NULL);
        _exit(EXIT_STATUS);
    }
}

static void report(const slot &before, const slot &now, const void *memory)
{
    static const int registered = atexit(leave);
    (void)registered;
    if (!found.insert({before.place, now.place}).second || found.size() > MOST_SHOWN)
        return;
    const bool is_shared = (uintptr_t)memory - shared.begin < shared.bytes;
    fprintf(stderr, "emulation: a race at %p, %s memory\n", memory,
            is_shared ? "shared" : "global");
    describe(now, false);
    describe(before, true);
}

/* ---- accesses ------------------------------------------------------------------------------------ */

/* repeats: a copy of what another copy brings there too. */
static void look_at(cell &c, const slot &now, const void *memory, bool is_shared, bool repeats)
{
    static uint32_t random = 1;
    slot *to = NULL;
    for (slot &s : c) {
        if (s.what == NONE || (is_shared && s.unit != now.unit)) {
            s.what = NONE;
            to = &s;
            continue;
        }
        const bool mine = s.unit == now.unit && s.thread == now.thread;
        if ((s.bytes & now.bytes) == 0 || (s.what == READ && now.what == READ && !mine))
            continue;
        const bool ordered = mine || is_done(s);
        if (!ordered && (s.what != ATOMIC || now.what != ATOMIC) &&
            !(repeats && s.thread > n_threads))
            report(s, now, memory);
        if (ordered && (s.bytes & ~now.bytes) == 0 &&
            (s.what == READ || now.what == WRITE || s.what == now.what)) {
            s.what = NONE; /* whoever races with it races with this one too */
            to = &s;
        }
    }
    if (to == NULL) {
        random = random * 1664525 + 1013904223;
        to = &c[random >> 30];
        if (now.what == READ && (to->what != READ || (random >> 24 & 7) != 0))
            return; /* one of many */
    }
    *to = now;
}

/* copy: not of the thread that acts, but of its copies. */
static void look(const void *memory, size_t bytes, kind what, const void *caller, bool copy = false,
                 bool repeats = false)
{
    const uintptr_t begin = (uintptr_t)memory;
    const bool is_shared = begin - device.begin >= device.bytes;
    if (is_shared && (!in_block || begin - shared.begin >= shared.bytes))
        return;
    if (shared.bytes == 0)
        return;
    slot now;
    now.place = (uint32_t)((uintptr_t)caller - code);
    now.what = what;
    if (!in_block) {
        now.unit = now.thread = 0;
        now.clock = host[0];
    } else {
        now.unit = (uint32_t)units.size() - 1;
        now.thread = (uint16_t)(copy ? n_threads + 1 + me : me);
        now.clock = copy ? copy_clocks[me] : threads[me].own[me];
    }
    const window &w = is_shared ? shared : device;
    for (uintptr_t at = begin / WORD * WORD; at < begin + bytes; at += WORD) {
        now.bytes = 0xf;
        if (at < begin)
            now.bytes &= (uint8_t)(0xf << (begin - at));
        if (at + WORD > begin + bytes)
            now.bytes &= (uint8_t)(0xf >> (at + WORD - begin - bytes));
        look_at(w.cells[(at - w.begin) / WORD], now, (const void *)at, is_shared, repeats);
    }
}

#define CALLER __builtin_return_address(0)

void reads(const void *memory, size_t bytes)
{
    if (watching)
        look(memory, bytes, READ, CALLER);
}

void writes(const void *memory, size_t bytes)
{
    if (watching)
        look(memory, bytes, WRITE, CALLER);
}

/* ---- threads ------------------------------------------------------------------------------------- */

void begin_block(uint32_t number, uint32_t n)
{
    if (!watching)
        return;
    if (shared.bytes == 0)
        dl_iterate_phdr(look_at_program, NULL);
    units.push_back({number, n, job.stream, job.job});
    n_threads = n;
    if (threads.size() < n)
        threads.resize(n);
    for (uint32_t i = 0; i < n; i++) {
        threads[i].own.assign(n + 1, 0);
        threads[i].own[i] = 1;
        threads[i].far = NULL;
    }
    copy_clocks.assign(n, 1);
    block = {};
    me = 0;
    in_block = true;
}

void act(uint32_t i)
{
    me = i;
}

void end_block()
{
    in_block = false;
}

void release(knowledge *to, bool first)
{
    if (!watching)
        return;
    if (first)
        *to = threads[me];
    else {
        join(&to->own, threads[me].own);
        if (threads[me].far != NULL && threads[me].far != to->far)
            join_far(&to->far, threads[me].far);
    }
    threads[me].own[me]++;
}

void acquire(const knowledge &from)
{
    if (!watching)
        return;
    join(&threads[me].own, from.own);
    if (from.far != NULL && from.far != threads[me].far)
        join_far(&threads[me].far, from.far);
}

void mbarrier_arrives(const void *barrier, bool ends)
{
    if (!watching)
        return;
    look(barrier, sizeof(uint64_t), ATOMIC, CALLER);
    knowledge &arriving = block.arriving[barrier];
    release(&arriving, false);
    if (!ends)
        return;
    knowledge &done = block.done[barrier];
    join(&done.own, arriving.own);
    if (arriving.far != NULL)
        join_far(&done.far, arriving.far);
    arriving = {};
}

void mbarrier_waits(const void *barrier)
{
    if (!watching)
        return;
    look(barrier, sizeof(uint64_t), ATOMIC, CALLER);
    acquire(block.done[barrier]);
}

void counts(const void *counter, bool of_block)
{
    if (!watching)
        return;
    look(counter, sizeof(uint32_t), ATOMIC, CALLER);
    if (of_block) {
        knowledge &of = block.counters[counter];
        acquire(of);
        release(&of, false);
        return;
    }
    knowledge &mine = threads[me];
    if (counters[counter] != NULL)
        join_far(&mine.far, counters[counter]);
    auto with_mine = std::make_shared<std::map<uint32_t, std::vector<uint32_t>>>();
    (*with_mine)[(uint32_t)units.size() - 1] = mine.own;
    far_blocks known = with_mine;
    if (mine.far != NULL)
        join_far(&known, mine.far);
    counters[counter] = known;
    mine.own[me]++;
}

/* ---- copies -------------------------------------------------------------------------------------- */

static void copy(void *to, const void *from, uint32_t bytes, const void *caller)
{
    const void *&last = block.copied[to];
    look(from, bytes, READ, caller, true);
    look(to, bytes, WRITE, caller, true, last == from);
    last = from;
}

void copies(void *to, const void *from, uint32_t bytes)
{
    if (watching)
        copy(to, from, bytes, CALLER);
}

void copies_group()
{
    if (watching)
        copy_clocks[me]++;
}

void copies_done(uint32_t left)
{
    if (!watching || copy_clocks[me] <= left)
        return;
    uint32_t *clock = clock_of_copies(&threads[me].own);
    *clock = std::max(*clock, copy_clocks[me] - 1 - left);
}

void copies_bulk(void *to, const void *from, uint32_t bytes, const void *barrier)
{
    if (!watching)
        return;
    copy(to, from, bytes, CALLER);
    *clock_of_copies(&block.arriving[barrier].own) = copy_clocks[me]++;
}

void waits_for_kernels_ahead()
{
    if (!watching)
        return;
    threads[me].own[n_threads] = 1;
    job.waited = true;
}

/* ---- streams and the host ------------------------------------------------------------------------ */

void open_stream(stream *s)
{
    s->number = n_streams++;
}

history asked()
{
    const history now = host;
    if (watching)
        host[0]++;
    return now;
}

void begin_job(stream *s, const history &by_then, job_kind kind)
{
    if (!watching)
        return;
    job.stream = s->number;
    job.job = s->number < s->all.size() ? s->all[s->number] + 1 : 1;
    job.before = kind == JOB_CHAINED ? s->early : s->all;
    job.after = kind == JOB_CHAINED ? s->waited : s->all;
    join(&job.before, by_then);
    join(&job.after, by_then);
    job.waited = false;
    counters.clear();
    memset(done, 0, sizeof(done));
    if (kind == JOB_COPY)
        begin_block(NO_BLOCK, 1);
}

/* Who waits for a chained kernel that has not waited itself, knows nothing of those ahead of it: nor of it, as a
 * stream's jobs are counted. */
void end_job(stream *s, job_kind kind)
{
    if (!watching)
        return;
    end_block();
    join(&s->all, job.after);
    s->all.resize(std::max(s->all.size(), (size_t)job.stream + 1));
    s->all[job.stream] = job.job;
    s->waited = kind != JOB_CHAINED || job.waited ? s->all : job.before;
    s->early = kind == JOB_COPY ? s->all : job.before;
}

void stream_hears(stream *s, const history &of)
{
    join(&s->all, of);
    join(&s->waited, of);
    join(&s->early, of);
}

void host_hears(const history &of)
{
    const uint32_t clock = host[0];
    join(&host, of);
    host[0] = clock;
}

} // namespace races
} // namespace emulation

/* ---- what the compiler calls --------------------------------------------------------------------- */

using namespace emulation::races;

extern "C" void __tsan_init()
{
    start();
}

#define ACCESSES(bytes)                                                                            \
    extern "C" void __tsan_read##bytes(void *memory)                                               \
    {                                                                                              \
        look(memory, bytes, READ, CALLER);                                                         \
    }                                                                                              \
    extern "C" void __tsan_write##bytes(void *memory)                                              \
    {                                                                                              \
        look(memory, bytes, WRITE, CALLER);                                                        \
    }                                                                                              \
    extern "C" void __tsan_unaligned_read##bytes(void *memory)                                     \
    {                                                                                              \
        look(memory, bytes, READ, CALLER);                                                         \
    }                                                                                              \
    extern "C" void __tsan_unaligned_write##bytes(void *memory)                                    \
    {                                                                                              \
        look(memory, bytes, WRITE, CALLER);                                                        \
    }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)

/* What the host's files of C call for these (Makefile). */
extern "C" void *watched_memcpy(void *to, const void *from, size_t bytes)
{
    look(from, bytes, READ, CALLER);
    look(to, bytes, WRITE, CALLER);
    return memcpy(to, from, bytes);
}

extern "C" void *watched_memmove(void *to, const void *from, size_t bytes)
{
    look(from, bytes, READ, CALLER);
    look(to, bytes, WRITE, CALLER);
    return memmove(to, from, bytes);
}

extern "C" void *watched_memset(void *to, int value, size_t bytes)
{
    look(to, bytes, WRITE, CALLER);
    return memset(to, value, bytes);
}

/* Of what guards static variables. */
extern "C" uint8_t __tsan_atomic8_load(const volatile uint8_t *memory, int)
{
    return __atomic_load_n(memory, __ATOMIC_ACQUIRE);
}

extern "C" void __tsan_read_range(void *memory, size_t bytes)
{
    look(memory, bytes, READ, CALLER);
}

extern "C" void __tsan_write_range(void *memory, size_t bytes)
{
    look(memory, bytes, WRITE, CALLER);
}
