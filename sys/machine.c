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

/* Data caches of the first processor, nearest first. */
static void append_caches(char *text, size_t size)
{
    const char *separator = ", caches ";
    for (int i = 0; i < MOST_CACHES; i++) {
        char path[128], kind[LINE_BYTES], bytes[LINE_BYTES], shown[SIZE_TEXT_BYTES];
        uint64_t n_bytes;
        snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/type", i);
        if (!read_line(path, kind) || strcmp(kind, "Instruction") == 0)
            continue;
        snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        if (!read_line(path, bytes) || size_parse("cache", bytes, &n_bytes, NULL) != STATUS_OK)
            continue;
        append(text, size, separator, size_format(n_bytes, shown));
        separator = " + ";
    }
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
