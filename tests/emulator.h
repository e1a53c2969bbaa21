/* tests/emulator.h - what tests leave out where an emulator runs them (LONGSPAN_TEST_UNDER of
 * tests/run.sh).
 *
 * It makes arithmetic many times slower. What an instruction does shows in any case that uses it:
 * of numbers of lanes and rows that take the same instructions there are fewer, and the program
 * says which it leaves out, in lines that tests/run.sh shows. */
#ifndef LONGSPAN_TESTS_EMULATOR_H
#define LONGSPAN_TESTS_EMULATOR_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Whether this is one; then it says that a test goes on without these. */
static inline bool emulator_leaves_out(const char *cases)
{
    const char *under = getenv("LONGSPAN_TEST_UNDER");
    if (under == NULL || under[0] == '\0')
        return false;
    printf("# left out under an emulator: %s\n", cases);
    return true;
}

#endif
