/* sys/bus_error.h - what is said when memory that stands for a file is not there (SIGBUS).
 *
 * A mapped file that another process cuts short, a disk that cannot be read, and a full /dev/shm
 * under memory that processes share end a program in the middle of a load or a copy. None of them
 * can be checked for beforehand. */
#ifndef LONGSPAN_SYS_BUS_ERROR_H
#define LONGSPAN_SYS_BUS_ERROR_H

/* From now on such an end is one line on standard error, with the remedies, and the exit code of
 * STATUS_IO. Other causes of SIGBUS (broken memory, alignment) end the program as before.
 * `main` calls it; a library that installs a handler of its own (MPI_Init) comes before. */
void bus_error_explain(void);

#endif
