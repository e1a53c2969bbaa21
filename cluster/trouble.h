/* cluster/trouble.h - what ssh, shells and mpirun say when they fail, and what to do about it. */
#ifndef LONGSPAN_CLUSTER_TROUBLE_H
#define LONGSPAN_CLUSTER_TROUBLE_H

#include <stddef.h>

/* The remedy for the first trouble known in `said`, any number of lines; NULL: none is known. */
const char *trouble_remedy(const char *said);

/* The last line that is more than a frame, without its end; "" if there is none. */
void trouble_last_line(char *line, size_t size, const char *said);

#endif
