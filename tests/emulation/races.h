/* tests/emulation/races.h - which accesses to the device's memory nothing puts in an order.
 *
 * Two accesses to a byte, one of which writes, race unless the first one happens before the second one: by program order, and
 * by what CUDA orders with: barriers, __syncwarp, mbarriers, the counters' atomics, waits for copies, ends of kernels,
 * chain_wait, streams, events and waiting hosts; not by shuffles and products of a warp, which wait for its lanes
 * but order no memory (CUDA C++ Programming Guide, "Warp Shuffle Functions"). Fibers run one after the other; so it does
 * not matter here what happened first, only what had to.
 *
 * Everyone who acts has a clock of vectors (Flanagan and Freund 2009, FastTrack): what it knows to be done. A block's
 * counts its threads' releases and, apart, the copies that they have on their way, which are actors of their own. What
 * is known of other blocks of the launch comes by counters; of other launches by streams, of which there
 * is one vector for each launch, one for those of its threads that have not waited for the kernels ahead, and one for the host.
 *
 * Shared memory, cudaMalloc's and pinned memory are watched, in programs of which the kernels are compiled with
 * -fsanitize=thread: the compiler has each access call us. In others all this does nothing. */
#ifndef LONGSPAN_TESTS_EMULATION_RACES_H
#define LONGSPAN_TESTS_EMULATION_RACES_H

#include <stddef.h>
#include <stdint.h>

#include <map>
#include <memory>
#include <vector>

namespace emulation
{
namespace races
{

/* Whether anything was compiled for it. */
extern bool watching;

/* So many pairs of places race, as far as known. They are printed when they are found; a program that has found one
 * ends with EXIT_STATUS, unless they are taken: 0 from then on. */
enum { EXIT_STATUS = 66 };
uint32_t take_found();

/* ---- threads of a block ---- */

using far_blocks = std::shared_ptr<const std::map<uint32_t, std::vector<uint32_t>>>;

struct knowledge {
    std::vector<uint32_t>
        own;        /* of the block: by thread; of the kernels ahead; by thread, of its copies */
    far_blocks far; /* likewise of others */
};

/* Block `block` of the job that runs; its fiber i acts from now on; the host acts again. */
void begin_block(uint32_t block, uint32_t n_threads);
void act(uint32_t i);
void end_block();

/* Who acquires what was released knows what the releasers knew. first: of a round. */
void release(knowledge *to, bool first);
void acquire(const knowledge &from);

/* ends: a phase, with this arrival. */
void mbarrier_arrives(const void *barrier, bool ends);
void mbarrier_waits(const void *barrier);

/* An atomic operation that acquires and releases, in the block or on the device. */
void counts(const void *counter, bool of_block);

/* Copies of this thread: in groups, of which all but the newest `left` are done; or of which a barrier hears. */
void copies(void *to, const void *from, uint32_t bytes);
void copies_group();
void copies_done(uint32_t left);
void copies_bulk(void *to, const void *from, uint32_t bytes, const void *barrier);

void waits_for_kernels_ahead();

void reads(const void *memory, size_t bytes);
void writes(const void *memory, size_t bytes);

/* ---- streams and the host ---- */

/* By stream, how many of its jobs are done; [0]: what the host has done. */
using history = std::vector<uint32_t>;

/* What is done when the next job begins: a chained kernel's threads know `waited` when they have waited for the
 * kernels ahead, and `early` before. */
struct stream {
    uint32_t number;
    history all, waited, early;
};

/* A chained kernel may begin before those ahead of it have ended: programmatic dependent launch. */
enum job_kind { JOB_COPY, JOB_KERNEL, JOB_CHAINED };

void open_stream(stream *s);

/* What is done when the host asks for a job. */
history asked();
void begin_job(stream *s, const history &asked, job_kind kind);
void end_job(stream *s, job_kind kind);

/* The stream waits for an event; so does the host, or for a stream. */
void stream_hears(stream *s, const history &of);
void host_hears(const history &of);

/* Memory of the device, or pinned: never the same twice. NULL: there is no more. */
void *take(size_t bytes);
void give(void *memory);

} // namespace races
} // namespace emulation

#endif
