/* sys/interfaces.h - which of a host's networks is meant: lists of interfaces and subnets.
 *
 *     eth0            an interface
 *     10.0.0.0/24     whichever interface has an address in there; fd00::/64
 *     eth0,ib0        the first of them that there is
 *
 * As Open MPI's btl_tcp_if_include, so that one list serves both. */
#ifndef LONGSPAN_SYS_INTERFACES_H
#define LONGSPAN_SYS_INTERFACES_H

#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { INTERFACES_ADDRESS_BYTES = 64 };

/* STATUS_INVALID: not such a list; the text begins with `where`. */
enum status interfaces_check(const char *list, const char *where, struct error *error);

/* This host's own address of the first entry that it has an interface for, which is up; IPv4 before
 * IPv6, link-local ones never. STATUS_INVALID: not a list. STATUS_NOT_FOUND: it has none of them;
 * the text names those that it has. STATUS_IO. */
enum status interfaces_address(const char *list, char address[INTERFACES_ADDRESS_BYTES],
                               struct error *error);

/* This host's own addresses of interfaces that are up, "10.0.0.1/24", neither loopback nor
 * link-local. The caller frees *list, one block. STATUS_IO, STATUS_NO_MEMORY. */
enum status interfaces_own(char (**list)[INTERFACES_ADDRESS_BYTES], uint32_t *n,
                           struct error *error);

#endif
