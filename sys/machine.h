/* sys/machine.h - which machine a number was measured on. */
#ifndef LONGSPAN_SYS_MACHINE_H
#define LONGSPAN_SYS_MACHINE_H

#include <stddef.h>
#include <stdint.h>

/* One line: processor, processors usable, caches of the first one, memory, kernel, compiler:
 *     "AMD EPYC, 2 processors, caches 32 KiB + 1 MiB + 32 MiB, memory 23.5 GiB, Linux 6.18, GCC 12"
 * What the system does not say is left out. Cut to `size` bytes with its final zero. */
void machine_describe(char *text, size_t size);

/* Bytes of the first processor's last cache; 0: the system does not say. */
uint64_t machine_last_cache_bytes(void);

#endif
