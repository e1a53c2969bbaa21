/* The same of the portable code, where the processor has instructions for it. */
#define SHA256_PORTABLE

#include "sys/sha256.c"

#include "tests/sys/test_sha256.c"
