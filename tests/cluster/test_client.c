/* test_client.c - how long a command waits for a coordinator that is not there. */
#include "cluster/client.h"

#include "sys/clock.h"
#include "tests/cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REACH_US = 1500000, PAUSE_US = 1800000 };

static enum status look(struct client *client, struct error *error)
{
    const Longspan__RunEvent *event;
    const void *row;
    size_t row_bytes;
    return client_progress(client, &event, &row, &row_bytes, error);
}

/* Who was stopped asks nothing meanwhile: to the client that is the same. */
static void test_who_was_stopped_goes_on_waiting(void **state)
{
    static const struct client_prompt prompt = {.text = "x", .n_bytes = 1};
    static const struct client_request request = {.prompts = &prompt, .n_prompts = 1};
    char folder[] = "/tmp/lst-client-XXXXXX", address[64];
    struct client *client = NULL;
    struct error error = {0};
    assert_non_null(mkdtemp(folder));
    snprintf(address, sizeof(address), "ipc://%s/nobody.sock", folder);
    const uint64_t began = clock_us();
    assert_int_equal(client_open(&client, address, NULL, false, &request, REACH_US, &error),
                     STATUS_OK);
    assert_int_equal(look(client, &error), STATUS_OK);
    clock_sleep_us(PAUSE_US);
    assert_int_equal(look(client, &error), STATUS_OK); /* a second was away, and counts */
    enum status status;
    while ((status = look(client, &error)) == STATUS_OK && clock_us() - began < 60 * REACH_US)
        clock_sleep_us(10000);
    assert_int_equal(status, STATUS_UNREACHABLE);
    assert_non_null(strstr(error.text, "did not answer within 1 s"));
    client_close(client);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_who_was_stopped_goes_on_waiting)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
