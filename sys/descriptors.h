/* sys/descriptors.h - how many files, sockets and pipes this process may have open.
 *
 * A process of a large cluster has several for each other one; the usual limit of 1024 (`ulimit
 * -n`) is one of habit, which a process may raise itself, up to its hard limit. */
#ifndef LONGSPAN_SYS_DESCRIPTORS_H
#define LONGSPAN_SYS_DESCRIPTORS_H

#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>

/* More than any cluster of ours needs, and few enough for programs that close all of them one by
 * one before they start another. */
enum { DESCRIPTORS_ENOUGH = 1 << 16 };

/* What each process of the smallest cluster can do with. */
enum { DESCRIPTORS_LEAST = 64 };

/* Raises the limit of open descriptors to the hard one, or to DESCRIPTORS_ENOUGH where that is
 * less; it is never lowered. Returns what it is then; 0: the kernel does not say. `main` calls it,
 * before anything is opened. Children inherit it. */
size_t descriptors_raise(void);

/* How many more can be opened, by /proc; SIZE_MAX where that does not say. Takes as long as there are
 * open ones. */
size_t descriptors_left(void);

/* Whether fewer than `few` more can be opened, as soon as that is certain: at once. */
bool descriptors_are_few(size_t few);

/* Before processes are started: who has too few waits for connections that cannot come.
 * STATUS_EXHAUSTED: fewer than DESCRIPTORS_LEAST; with what to do. */
enum status descriptors_check(struct error *error);

#endif
