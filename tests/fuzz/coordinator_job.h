/* tests/fuzz/coordinator_job.h - the job's number in fuzz_coordinator.c; seeds.c writes messages
 * for it. */
#ifndef LONGSPAN_TESTS_FUZZ_COORDINATOR_JOB_H
#define LONGSPAN_TESTS_FUZZ_COORDINATOR_JOB_H

enum { COORDINATOR_JOB = 11, COORDINATOR_FRAME = 0x80 };

#endif
