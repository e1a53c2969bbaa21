/* test_neighbour.c - what can be opened is what was offered, and it cannot be taken away. */
#include "sys/neighbour.h"

#include "tests/cmocka.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BYTES = 1 << 16, PATIENCE_MS = 20000 };

static void test_memory_is_shared_with_another_process(void **state)
{
    struct neighbour_memory memory;
    assert_int_equal(neighbour_memory_create(&memory, BYTES, NULL), STATUS_OK);
    const pid_t child = fork();
    if (child == 0) { /* opens what it has inherited once more, as a stranger would */
        struct neighbour_memory opened;
        const bool good =
            neighbour_memory_open(&opened, (uint32_t)getppid(), (uint32_t)memory.descriptor, BYTES,
                                  memory.nonce, NULL) == STATUS_OK &&
            opened.base != memory.base;
        if (good)
            memcpy(opened.base, "seen", 5);
        _exit(good ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_string_equal(memory.base, "seen");
    neighbour_memory_destroy(&memory);
}

static void test_nobody_can_shrink_it(void **state)
{
    struct neighbour_memory memory;
    assert_int_equal(neighbour_memory_create(&memory, BYTES, NULL), STATUS_OK);
    assert_int_not_equal(ftruncate(memory.descriptor, 0), 0);
    assert_int_not_equal(ftruncate(memory.descriptor, BYTES + 4096), 0);
    neighbour_memory_destroy(&memory);
}

static void test_what_is_not_the_offer_is_not_opened(void **state)
{
    struct neighbour_memory memory, opened = {.bytes = 7};
    const uint32_t own = (uint32_t)getpid();
    assert_int_equal(neighbour_memory_create(&memory, BYTES, NULL), STATUS_OK);
    const uint32_t descriptor = (uint32_t)memory.descriptor;
    uint8_t other[NEIGHBOUR_NONCE_BYTES];
    memcpy(other, memory.nonce, sizeof(other));
    other[0] ^= 1;
    assert_int_equal(neighbour_memory_open(&opened, own, descriptor, BYTES, other, NULL),
                     STATUS_NOT_FOUND);
    assert_int_equal(neighbour_memory_open(&opened, own, 0, BYTES, memory.nonce, NULL),
                     STATUS_NOT_FOUND); /* standard input */
    assert_int_equal(neighbour_memory_open(&opened, own, 4000000000u, BYTES, memory.nonce, NULL),
                     STATUS_NOT_FOUND);
    assert_int_equal(neighbour_memory_open(&opened, own, descriptor, 2 * BYTES, memory.nonce, NULL),
                     STATUS_PROTOCOL);
    assert_int_equal(opened.bytes, 7); /* untouched */

    /* The right name, and the right size, but it could be shrunk under us. */
    char name[64] = "longspan-";
    for (size_t i = 0; i < sizeof(other); i++)
        snprintf(name + strlen(name), 3, "%02x", other[i]);
    const int soft = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(soft >= 0 && ftruncate(soft, BYTES) == 0);
    assert_int_equal(neighbour_memory_open(&opened, own, (uint32_t)soft, BYTES, other, NULL),
                     STATUS_PROTOCOL);
    close(soft);

    neighbour_memory_hide(&memory);
    assert_int_equal(neighbour_memory_open(&opened, own, descriptor, BYTES, memory.nonce, NULL),
                     STATUS_NOT_FOUND);
    neighbour_memory_destroy(&memory);
}

static int heard(const struct neighbour_bell *bell, int timeout_ms)
{
    struct pollfd polled = {.fd = bell->listen, .events = POLLIN};
    return poll(&polled, 1, timeout_ms) > 0 ? polled.revents : 0;
}

static void test_a_bell_rings_and_hangs_up(void **state)
{
    struct neighbour_bell bell, theirs;
    const uint32_t own = (uint32_t)getpid();
    assert_int_equal(neighbour_bell_create(&bell, NULL), STATUS_OK);
    assert_int_equal(neighbour_bell_open(&theirs, own, (uint32_t)bell.listen, false, NULL),
                     STATUS_OK);
    assert_int_equal(theirs.listen, -1);
    neighbour_bell_close(&bell.ring);
    assert_int_equal(heard(&bell, 0), 0);
    for (int i = 0; i < 100000; i++) /* more than a pipe holds: never waits */
        neighbour_bell_ring(&theirs);
    assert_int_equal(heard(&bell, PATIENCE_MS), POLLIN);
    neighbour_bell_hush(&bell);
    assert_int_equal(heard(&bell, 0), 0);
    neighbour_bell_close(&theirs.ring);
    assert_int_equal(heard(&bell, PATIENCE_MS) & POLLHUP, POLLHUP);
    neighbour_bell_close(&bell.listen);
}

static void test_a_bell_is_a_pipe(void **state)
{
    struct neighbour_bell bell;
    const int file = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(neighbour_bell_open(&bell, (uint32_t)getpid(), (uint32_t)file, true, NULL),
                     STATUS_NOT_FOUND);
    close(file);
    assert_int_equal(neighbour_bell_open(&bell, (uint32_t)getpid(), (uint32_t)file, true, NULL),
                     STATUS_NOT_FOUND);
}

static void test_a_kernel_has_one_name(void **state)
{
    char boot[NEIGHBOUR_BOOT_BYTES], again[NEIGHBOUR_BOOT_BYTES];
    neighbour_boot(boot);
    neighbour_boot(again);
    assert_int_equal(strlen(boot), NEIGHBOUR_BOOT_BYTES - 1);
    assert_string_equal(boot, again);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_shared_with_another_process),
        cmocka_unit_test(test_nobody_can_shrink_it),
        cmocka_unit_test(test_what_is_not_the_offer_is_not_opened),
        cmocka_unit_test(test_a_bell_rings_and_hangs_up),
        cmocka_unit_test(test_a_bell_is_a_pipe),
        cmocka_unit_test(test_a_kernel_has_one_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
