/* tests/cmocka.h - cmocka, and the headers that it wants before it. */
#ifndef LONGSPAN_TESTS_CMOCKA_H
#define LONGSPAN_TESTS_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
