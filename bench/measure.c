/* measure.c - see measure.h. */
#include "bench/measure.h"

#include "sys/clock.h"
#include "sys/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct measure measure(uint32_t n_runs, void (*function)(void *context), void *context)
{
    double seconds[MEASURE_MAX_RUNS];
    if (n_runs == 0 || n_runs > MEASURE_MAX_RUNS)
        n_runs = MEASURE_MAX_RUNS;
    function(context);
    for (uint32_t i = 0; i < n_runs; i++) {
        const uint64_t begin = clock_ns();
        function(context);
        seconds[i] = (double)(clock_ns() - begin) * 1e-9;
    }
    qsort(seconds, n_runs, sizeof(seconds[0]), compare);
    return (struct measure){seconds[n_runs / 2], seconds[0], seconds[n_runs - 1], n_runs};
}

void measure_print_machine(void)
{
    char line[256], model[256] = "unknown processor";
    struct utsname system;
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            snprintf(model, sizeof(model), "%s", colon + 2);
            model[strcspn(model, "\n")] = '\0';
            break;
        }
    }
    if (file != NULL)
        fclose(file);
    uname(&system);
    printf("# %s, %ld processors, %s %s\n", model, sysconf(_SC_NPROCESSORS_ONLN), system.sysname,
           system.release);
}

struct reading {
    struct thread_pool *pool;
    const uint64_t *words;
    size_t n_words;
    uint64_t sums[1024][8]; /* one cache line for each lane */
};

static void read_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    struct reading *reading = context;
    size_t begin, end;
    thread_pool_share(reading->n_words, 512, lane, n_lanes, &begin, &end);
    /* Four streams of whole cache lines, as products read several panels: one stream alone leaves
     * some of the bandwidth unused. */
    uint64_t sum[8] = {0}; /* independent, so that the compiler makes vectors of them */
    const size_t quarter = (end - begin) / 32 * 8;
    for (size_t i = begin; i + 8 <= begin + quarter; i += 8)
        for (size_t stream = 0; stream < 4; stream++) {
            const uint64_t *words = reading->words + stream * quarter + i;
            __builtin_prefetch(words + 512); /* a page ahead */
            for (size_t j = 0; j < 8; j++)
                sum[j] ^= words[j];
        }
    for (size_t j = 0; j < 8; j++)
        reading->sums[lane][j] = sum[j];
}

static void read_all(void *context)
{
    struct reading *reading = context;
    thread_pool_run(reading->pool, read_lane, reading);
}

static void touch_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    struct reading *reading = context;
    size_t begin, end;
    thread_pool_share(reading->n_words, 512, lane, n_lanes, &begin, &end);
    memset((uint64_t *)reading->words + begin, (int)lane + 1, (end - begin) * sizeof(uint64_t));
}

double measure_read_bandwidth(struct thread_pool *pool, size_t bytes)
{
    void *memory;
    static struct reading reading; /* too large for a stack */
    if (memory_reserve(&memory, bytes, NULL) != STATUS_OK)
        return 0;
    reading.pool = pool;
    reading.words = memory;
    reading.n_words = bytes / sizeof(uint64_t);
    thread_pool_run(pool, touch_lane, &reading);
    const struct measure result = measure(7, read_all, &reading);
    memory_release(memory, bytes);
    return (double)bytes / result.median_s;
}
