/* machine.c - from /proc, /sys and the compiler's own names. */
#include "sys/machine.h"

#include "sys/size.h"
#include "sys/topology.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#if defined(__clang__)
#define COMPILER "Clang " __clang_version__
#else
#define COMPILER "GCC " __VERSION__
#endif

enum { LINE_BYTES = 256, MOST_CACHES = 8 };

/* The first line of a small file, without its newline; false: there is none. */
static int read_line(const char *path, char line[LINE_BYTES])
{
    FILE *file = fopen(path, "r");
    const int read = file != NULL && fgets(line, LINE_BYTES, file) != NULL;
    if (file != NULL)
        fclose(file);
    if (read)
        line[strcspn(line, "\n")] = '\0';
    return read;
}

static void processor_name(char name[LINE_BYTES])
{
    char line[LINE_BYTES];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(name, LINE_BYTES, "unknown processor");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon != NULL && colon[1] == ' ') {
            snprintf(name, LINE_BYTES, "%s", colon + 2);
            name[strcspn(name, "\n")] = '\0';
            break;
        }
    }
    if (file != NULL)
        fclose(file);
}

static void append(char *text, size_t size, const char *separator, const char *what)
{
    const size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s", separator, what);
}

/* Bytes of the first processor's cache `index`; 0: there is none, or it holds instructions only. */
static uint64_t cache_bytes(int index)
{
    char path[128], line[LINE_BYTES];
    uint64_t bytes;
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/type", index);
    if (!read_line(path, line) || strcmp(line, "Instruction") == 0)
        return 0;
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
    return read_line(path, line) && size_parse("cache", line, &bytes, NULL) == STATUS_OK ? bytes
                                                                                         : 0;
}

/* Nearest first. */
static void append_caches(char *text, size_t size)
{
    const char *separator = ", caches ";
    for (int i = 0; i < MOST_CACHES; i++) {
        char shown[SIZE_TEXT_BYTES];
        const uint64_t bytes = cache_bytes(i);
        if (bytes == 0)
            continue;
        append(text, size, separator, size_format(bytes, shown));
        separator = " + ";
    }
}

uint64_t machine_last_cache_bytes(void)
{
    uint64_t last = 0;
    for (int i = 0; i < MOST_CACHES; i++) {
        const uint64_t bytes = cache_bytes(i);
        last = bytes > 0 ? bytes : last;
    }
    return last;
}

void machine_describe(char *text, size_t size)
{
    char part[2 * LINE_BYTES], shown[SIZE_TEXT_BYTES];
    struct utsname system;
    processor_name(part);
    snprintf(text, size, "%.200s", part);
    snprintf(part, sizeof(part), "%u processors", topology_processors());
    append(text, size, ", ", part);
    append_caches(text, size);
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0)
        append(text, size, ", memory ", size_format((uint64_t)pages * (uint64_t)page, shown));
    if (uname(&system) == 0) {
        snprintf(part, sizeof(part), "%.64s %.64s", system.sysname, system.release);
        append(text, size, ", ", part);
    }
    append(text, size, ", ", COMPILER);
}
