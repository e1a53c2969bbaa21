/* binding.c - order the processors, leave out those that are taken, lock the bytes of the rest. */
#include "sys/binding.h"

#include "sys/clock.h"
#include "sys/file.h"

#include <errno.h>
#include <fcntl.h>
#include <hwloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    CHOOSING_BYTE = 1 << 20, /* of the file of claims: locked while somebody chooses */
    CHOOSING_US = 1000000,   /* for as long somebody else may choose */
    CHOOSING_PAUSE_US = 1000,
    PATH_BYTES = 4096,
};

/* A processor. Places are in the order of cores, so that neighbours share caches. */
struct place {
    uint32_t processor, core, node;
    uint32_t sibling; /* 0: the core's first hardware thread */
    bool taken;
};

struct binding {
    hwloc_topology_t topology;
    uint32_t n_lanes;
    uint32_t *processors; /* [n_lanes] */
    int claims;           /* the file, whose locks are ours */
};

/* ---- the machine ----------------------------------------------------------------------------- */

static enum status load(hwloc_topology_t *topology, hwloc_bitmap_t allowed, struct error *error)
{
    if (hwloc_topology_init(topology) != 0)
        return error_set(error, STATUS_NO_MEMORY, "binding: no memory for a topology");
    if (hwloc_topology_load(*topology) != 0) {
        hwloc_topology_destroy(*topology);
        *topology = NULL;
        return error_set(error, STATUS_UNSUPPORTED, "binding: hwloc cannot read this machine");
    }
    hwloc_bitmap_copy(allowed, hwloc_topology_get_allowed_cpuset(*topology));
    hwloc_bitmap_t own = hwloc_bitmap_alloc();
    if (own != NULL && hwloc_get_cpubind(*topology, own, HWLOC_CPUBIND_THREAD) == 0)
        hwloc_bitmap_and(allowed, allowed, own);
    hwloc_bitmap_free(own);
    return STATUS_OK;
}

static uint32_t node_of(hwloc_topology_t topology, unsigned processor)
{
    hwloc_obj_t node = NULL;
    while ((node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node)) != NULL)
        if (hwloc_bitmap_isset(node->cpuset, processor))
            return node->logical_index;
    return 0;
}

/* [*n] places of the processors in `allowed`; NULL: no memory. */
static struct place *list_places(hwloc_topology_t topology, hwloc_const_bitmap_t allowed,
                                 uint32_t *n)
{
    const int n_processors = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU);
    struct place *places = calloc(n_processors > 0 ? (size_t)n_processors : 1, sizeof(*places));
    hwloc_obj_t processor = NULL;
    *n = 0;
    while (places != NULL &&
           (processor = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_PU, processor)) != NULL) {
        if (!hwloc_bitmap_isset(allowed, processor->os_index))
            continue;
        const hwloc_obj_t core =
            hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_CORE, processor);
        struct place *place = &places[*n];
        *place = (struct place){
            .processor = processor->os_index,
            .core = core != NULL ? core->logical_index : processor->logical_index,
            .node = node_of(topology, processor->os_index),
        };
        for (uint32_t i = 0; i < *n; i++)
            place->sibling += places[i].core == place->core;
        ++*n;
    }
    return places;
}

/* ---- choosing -------------------------------------------------------------------------------- */

static bool core_is_free(const struct place *places, uint32_t n, const struct place *place)
{
    for (uint32_t i = 0; i < n; i++)
        if (places[i].core == place->core && places[i].taken)
            return false;
    return true;
}

/* A whole core for a lane. */
static bool is_whole(const struct place *places, uint32_t n, uint32_t i)
{
    return places[i].sibling == 0 && core_is_free(places, n, &places[i]);
}

static uint32_t count_whole(const struct place *places, uint32_t n, uint32_t node, bool any_node)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++)
        count += (any_node || places[i].node == node) && is_whole(places, n, i);
    return count;
}

/* The NUMA node with the fewest whole cores of those that have enough; UINT32_MAX: none. */
static uint32_t find_node(const struct place *places, uint32_t n, uint32_t n_lanes)
{
    uint32_t best = UINT32_MAX, fewest = UINT32_MAX;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t count = count_whole(places, n, places[i].node, false);
        if (count >= n_lanes && count < fewest) {
            fewest = count;
            best = places[i].node;
        }
    }
    return best;
}

/* False: not enough are free. */
static bool choose(const struct place *places, uint32_t n, uint32_t *chosen, uint32_t n_lanes)
{
    const uint32_t node = find_node(places, n, n_lanes);
    uint32_t found = 0;
    if (node != UINT32_MAX || count_whole(places, n, 0, true) >= n_lanes) {
        for (uint32_t i = 0; i < n && found < n_lanes; i++)
            if ((node == UINT32_MAX || places[i].node == node) && is_whole(places, n, i))
                chosen[found++] = places[i].processor;
        return true;
    }
    for (uint32_t sibling = 0; sibling < n && found < n_lanes; sibling++)
        for (uint32_t i = 0; i < n && found < n_lanes; i++)
            if (!places[i].taken && places[i].sibling == sibling)
                chosen[found++] = places[i].processor;
    return found == n_lanes;
}

/* ---- claims ---------------------------------------------------------------------------------- */

static bool lock_byte(int file, off_t byte, int kind)
{
    struct flock lock = {.l_type = (short)kind, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(file, F_OFD_SETLK, &lock) == 0;
}

static bool is_locked(int file, off_t byte)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(file, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* A file of ours, not somebody else's link to anything. */
static enum status open_claims(int *file, struct error *error)
{
    char path[PATH_BYTES];
    struct stat info;
    snprintf(path, sizeof(path), "%s/longspan-processors.%u", file_temporary_parent(),
             (unsigned)geteuid());
    *file = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (*file < 0)
        return error_set(error, STATUS_IO, "binding: cannot open %s: %s", path, strerror(errno));
    if (fstat(*file, &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == geteuid())
        return STATUS_OK;
    close(*file);
    *file = -1;
    return error_set(error, STATUS_IO, "binding: %s is not our file", path);
}

static enum status begin_choosing(int file, struct error *error)
{
    const uint64_t deadline_us = clock_us() + CHOOSING_US;
    while (!lock_byte(file, CHOOSING_BYTE, F_WRLCK)) {
        if (clock_us() >= deadline_us)
            return error_set(error, STATUS_IO, "binding: another process keeps choosing");
        clock_sleep_us(CHOOSING_PAUSE_US);
    }
    return STATUS_OK;
}

static enum status claim(struct binding *b, struct place *places, uint32_t n, struct error *error)
{
    enum status status = begin_choosing(b->claims, error);
    if (status != STATUS_OK)
        return status;
    uint32_t n_taken = 0;
    for (uint32_t i = 0; i < n; i++) {
        places[i].taken = is_locked(b->claims, places[i].processor);
        n_taken += places[i].taken;
    }
    bool ok = choose(places, n, b->processors, b->n_lanes);
    for (uint32_t i = 0; ok && i < b->n_lanes; i++)
        ok = lock_byte(b->claims, b->processors[i], F_WRLCK);
    lock_byte(b->claims, CHOOSING_BYTE, F_UNLCK);
    return ok ? STATUS_OK
              : error_set(error, STATUS_EXHAUSTED,
                          "binding: %u lanes, and %u of %u processors are taken by other processes",
                          b->n_lanes, n_taken, n);
}

/* ---- the module ------------------------------------------------------------------------------ */

static enum status create(struct binding **binding, uint32_t n_lanes, bool shared,
                          struct error *error)
{
    struct binding *b = calloc(1, sizeof(*b));
    hwloc_bitmap_t allowed = hwloc_bitmap_alloc();
    struct place *places = NULL;
    uint32_t n = 0;
    enum status status = STATUS_OK;
    if (b != NULL) {
        b->claims = -1;
        b->n_lanes = n_lanes;
        b->processors = calloc(n_lanes, sizeof(*b->processors));
    }
    if (b == NULL || b->processors == NULL || allowed == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "binding: no memory for %u lanes", n_lanes);
    if (status == STATUS_OK)
        status = load(&b->topology, allowed, error);
    if (status == STATUS_OK && (places = list_places(b->topology, allowed, &n)) == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "binding: no memory");
    if (status == STATUS_OK && !shared)
        status = open_claims(&b->claims, error);
    if (status == STATUS_OK && !shared)
        status = claim(b, places, n, error);
    if (status == STATUS_OK && shared && !choose(places, n, b->processors, n_lanes))
        status =
            error_set(error, STATUS_EXHAUSTED, "binding: %u lanes on %u processors", n_lanes, n);
    free(places);
    hwloc_bitmap_free(allowed);
    if (status == STATUS_OK)
        *binding = b;
    else
        binding_destroy(b);
    return status;
}

enum status binding_create(struct binding **binding, uint32_t n_lanes, struct error *error)
{
    return create(binding, n_lanes, false, error);
}

enum status binding_share(struct binding **binding, uint32_t n_lanes, struct error *error)
{
    return create(binding, n_lanes, true, error);
}

void binding_destroy(struct binding *binding)
{
    if (binding == NULL)
        return;
    if (binding->claims >= 0)
        close(binding->claims);
    if (binding->topology != NULL)
        hwloc_topology_destroy(binding->topology);
    free(binding->processors);
    free(binding);
}

uint32_t binding_processor(const struct binding *binding, uint32_t lane)
{
    return binding->processors[lane];
}

bool binding_pin(const struct binding *binding, uint32_t lane)
{
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    if (set == NULL)
        return false;
    hwloc_bitmap_only(set, binding->processors[lane]);
    const int code = hwloc_set_cpubind(binding->topology, set, HWLOC_CPUBIND_THREAD);
    hwloc_bitmap_free(set);
    return code == 0;
}

/* NULL: no memory. The caller frees it. */
static hwloc_bitmap_t all_processors(const struct binding *binding)
{
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    for (uint32_t i = 0; set != NULL && i < binding->n_lanes; i++)
        hwloc_bitmap_set(set, binding->processors[i]);
    return set;
}

void binding_text(const struct binding *binding, char *text, size_t size)
{
    hwloc_bitmap_t set = all_processors(binding);
    if (set == NULL || hwloc_bitmap_list_snprintf(text, size, set) < 0)
        snprintf(text, size, "?");
    hwloc_bitmap_free(set);
}

void binding_spread(const struct binding *binding, void *base, size_t bytes)
{
    hwloc_bitmap_t nodes = hwloc_bitmap_alloc(), set = all_processors(binding);
    if (nodes != NULL && set != NULL) {
        hwloc_cpuset_to_nodeset(binding->topology, set, nodes);
        if (hwloc_bitmap_weight(nodes) > 1)
            hwloc_set_area_membind(binding->topology, base, bytes, nodes, HWLOC_MEMBIND_INTERLEAVE,
                                   HWLOC_MEMBIND_BYNODESET);
    }
    hwloc_bitmap_free(nodes);
    hwloc_bitmap_free(set);
}
