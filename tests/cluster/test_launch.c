/* test_launch.c - children are heard, their deaths told in order, and none survives the end. */
#include "cluster/launch.h"

#include "sys/clock.h"
#include "tests/cmocka.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    PATIENCE_US = 20000000,
    GENTLE_US = 700000, /* what a gentle end waits: launch.h */
    ATTEMPTS = 20,
};

static struct launch *create(void)
{
    struct launch *launch = NULL;
    struct error error;
    assert_int_equal(launch_create(&launch, LAUNCH_SHOW_NOTHING, &error), STATUS_OK);
    return launch;
}

static void start(struct launch *launch, const char *label, const char *script, unsigned flags)
{
    char shell[] = "sh", option[] = "-c", *text = strdup(script);
    char *const words[] = {shell, option, text, NULL};
    struct error error;
    assert_int_equal(launch_start(launch, label, words, flags, &error), STATUS_OK);
    free(text);
}

static struct launch_death wait_for_death(struct launch *launch)
{
    struct launch_death death;
    const uint64_t deadline = clock_us() + PATIENCE_US;
    launch_progress(launch);
    while (!launch_first_death(launch, &death)) {
        struct pollfd item = {.fd = launch_descriptor(launch), .events = POLLIN};
        assert_true(clock_us() < deadline);
        poll(&item, 1, 1000);
        launch_progress(launch);
    }
    return death;
}

/* Waits until the first child has said `line`. */
static void wait_for_line(struct launch *launch, uint32_t child, const char *line)
{
    const uint64_t deadline = clock_us() + PATIENCE_US;
    while (strcmp(launch_latest(launch, child), line) != 0) {
        struct pollfd item = {.fd = launch_descriptor(launch), .events = POLLIN};
        assert_true(clock_us() < deadline);
        poll(&item, 1, 1000);
        launch_progress(launch);
    }
}

static void test_a_death_comes_with_label_code_and_last_words(void **state)
{
    struct launch *launch = create();
    start(launch, "patient", "exec sleep 100", 0);
    start(launch, "brief", "echo hello; echo -----; echo brief: error: no file >&2; exit 3", 0);
    struct launch_death death = wait_for_death(launch);
    assert_string_equal(death.label, "brief");
    assert_int_equal(death.code, 3);
    assert_string_equal(death.tail, "brief: error: no file\n");
    launch_destroy(launch);

    launch = create();
    start(launch, "killed", "echo one; echo ----; echo two; kill -9 $$", 0);
    death = wait_for_death(launch);
    assert_int_equal(death.code, 128 + SIGKILL);
    assert_string_equal(death.tail, "one\ntwo\n");
    launch_destroy(launch);
}

static void test_a_flood_of_words_keeps_its_end(void **state)
{
    struct launch *launch = create();
    start(launch, "flood",
          "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i + 1)); done; echo end; exit 1", 0);
    const struct launch_death death = wait_for_death(launch);
    assert_true(strlen(death.tail) < LAUNCH_TAIL_BYTES);
    assert_string_equal(death.tail + strlen(death.tail) - 4, "end\n");
    assert_non_null(strstr(death.tail, "line 19999\n"));
    launch_destroy(launch);
}

/* As many bytes as are kept, and no newline: the one that is added must have a place. */
static void test_one_long_line_without_an_end(void **state)
{
    struct launch *launch = create();
    start(launch, "long", "head -c 10000 /dev/zero | tr '\\0' x; exit 1", 0);
    const struct launch_death death = wait_for_death(launch);
    assert_int_equal(strlen(death.tail), LAUNCH_TAIL_BYTES);
    assert_string_equal(death.tail + LAUNCH_TAIL_BYTES - 2, "x\n");
    launch_destroy(launch);
}

static void test_what_cannot_be_started_is_said_at_once(void **state)
{
    struct launch *launch = create();
    char program[] = "/nowhere/program";
    char *const words[] = {program, NULL};
    struct error error;
    assert_int_equal(launch_start(launch, "role", words, 0, &error), STATUS_UNREACHABLE);
    assert_non_null(strstr(error.text, "/nowhere/program"));
    struct launch_death death;
    assert_false(launch_first_death(launch, &death));
    launch_destroy(launch);
}

/* As an ordinary user, who may start nothing more. The exit code of a child that tries. */
static int start_one_too_many(void)
{
    const struct rlimit none = {0, 0};
    if ((geteuid() == 0 && setuid(65534) != 0) || setrlimit(RLIMIT_NPROC, &none) != 0)
        return 77;
    struct launch *launch = create();
    char program[] = "true";
    char *const words[] = {program, NULL};
    struct error error;
    const enum status status = launch_start(launch, "role", words, 0, &error);
    return status == STATUS_UNREACHABLE && strstr(error.text, "ulimit -u") != NULL ? 0 : 1;
}

static void test_too_many_processes_have_a_remedy(void **state)
{
    int status;
    const pid_t child = fork();
    if (child == 0)
        _exit(start_one_too_many());
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* No child of ours is left, by the kernel's word. */
static void assert_no_children(void)
{
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void test_the_end_takes_everybody_even_the_stubborn_and_their_children(void **state)
{
    struct launch *launch = create();
    /* Ignores SIGTERM, and has a child in a session of its own, which ignores it too. */
    start(launch, "stubborn",
          "trap '' TERM; setsid sh -c 'sleep 100 & sleep 100' & echo ready; while :; do sleep 1; "
          "done",
          0);
    wait_for_line(launch, 0, "ready");
    const uint64_t began = clock_us();
    launch_end(launch, false);
    assert_true(clock_us() - began < 3000000);
    assert_no_children();
    launch_destroy(launch);
}

/* Whether the children had their whole time: on a busy machine a shell may take as long to hear a
 * signal, and then the end is rightly not gentle. */
static bool end_gently(struct launch *launch)
{
    const uint64_t began = clock_us();
    launch_end(launch, true);
    return clock_us() - began < GENTLE_US;
}

static void test_a_gentle_end_lets_a_follower_leave_by_itself(void **state)
{
    char folder[] = "/tmp/test-launch-XXXXXX", pipe_name[sizeof(folder) + 2], script[512];
    assert_non_null(mkdtemp(folder));
    snprintf(pipe_name, sizeof(pipe_name), "%s/f", folder);
    int code = 0;
    for (int i = 0; code != 7 && i < ATTEMPTS; i++) {
        struct launch *launch = create();
        /* The leader tells the follower, who would fail with 9 if it got SIGTERM. */
        snprintf(script, sizeof(script),
                 "mkfifo %s; trap 'echo bye > %s; exit 0' TERM; echo ready; while :; do sleep "
                 "0.05; done",
                 pipe_name, pipe_name);
        start(launch, "leader", script, 0);
        wait_for_line(launch, 0, "ready");
        snprintf(script, sizeof(script), "trap 'exit 9' TERM; echo ready; read word < %s; exit 7",
                 pipe_name);
        start(launch, "follower", script, LAUNCH_LEAVES);
        wait_for_line(launch, 1, "ready");
        const bool whole = end_gently(launch);
        struct launch_death death;
        launch_told(launch, 1, &death);
        code = death.code;
        assert_no_children();
        launch_destroy(launch);
        unlink(pipe_name);
        if (whole)
            break;
    }
    assert_int_equal(code, 7);
    rmdir(folder);
}

/* As a coordinator has something to tell its nodes at the end. */
static void test_who_is_told_first_ends_before_the_others(void **state)
{
    bool in_order = false;
    for (int i = 0; !in_order && i < ATTEMPTS; i++) {
        struct launch *launch = create();
        start(launch, "second", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done", 0);
        wait_for_line(launch, 0, "ready");
        start(launch, "first",
              "trap 'sleep 0.2; exit 4' TERM; echo ready; while :; do sleep 0.05; done",
              LAUNCH_FIRST);
        wait_for_line(launch, 1, "ready");
        const bool whole = end_gently(launch);
        struct launch_death death;
        assert_true(launch_first_death(launch, &death));
        in_order = strcmp(death.label, "first") == 0 && death.code == 4;
        launch_told(launch, 0, &death);
        in_order = in_order && death.code == 3;
        launch_destroy(launch);
        if (whole)
            break;
    }
    assert_true(in_order);
}

static void test_input_stays_open_until_the_end(void **state)
{
    struct launch *launch = create();
    start(launch, "reader", "cat; echo closed; exit 5", LAUNCH_NEEDS_INPUT);
    struct launch_death death;
    struct pollfd item = {.fd = launch_descriptor(launch), .events = POLLIN};
    assert_int_equal(poll(&item, 1, 100), 0); /* nothing happens */
    assert_false(launch_first_death(launch, &death));
    launch_destroy(launch);

    launch = create();
    start(launch, "empty", "cat; exit 6", 0); /* reads nothing at all */
    assert_int_equal(wait_for_death(launch).code, 6);
    launch_destroy(launch);
}

static void test_one_that_talks_is_heard_by_the_caller(void **state)
{
    struct launch *launch = create();
    start(launch, "first", "exec sleep 100", 0);
    const uint32_t index = launch_count(launch);
    start(launch, "echo", "echo aside >&2; while read x; do echo got $x; done", LAUNCH_TALKS);
    const struct launch_pipes pipes = launch_pipes(launch, index);
    assert_int_equal(write(pipes.to, "it\n", 3), 3);
    struct pollfd item = {.fd = pipes.from, .events = POLLIN};
    char heard[16] = "";
    assert_int_equal(poll(&item, 1, PATIENCE_US / 1000), 1);
    assert_int_equal(read(pipes.from, heard, sizeof(heard) - 1), 7);
    assert_string_equal(heard, "got it\n");
    const uint64_t deadline = clock_us() + PATIENCE_US;
    while (strcmp(launch_latest(launch, index), "aside") != 0) { /* standard error is words */
        assert_true(clock_us() < deadline);
        launch_progress(launch);
    }
    struct launch_death told;
    launch_told(launch, index, &told);
    assert_int_equal(told.code, -1);
    assert_string_equal(told.said, "aside\n");
    launch_end(launch, true); /* its input ends, and it by itself */
    launch_told(launch, index, &told);
    assert_int_equal(told.code, 0);
    launch_destroy(launch);
}

static void test_signals_are_read_and_not_passed_on(void **state)
{
    struct launch *launch = create();
    assert_int_equal(launch_signal(launch), 0);
    start(launch, "child", "trap 'exit 4' USR1; kill -INT $PPID; while :; do sleep 1; done", 0);
    const uint64_t deadline = clock_us() + PATIENCE_US;
    while (launch_signal(launch) == 0) {
        struct pollfd item = {.fd = launch_descriptor(launch), .events = POLLIN};
        assert_true(clock_us() < deadline);
        poll(&item, 1, 1000);
        launch_progress(launch);
    }
    assert_int_equal(launch_signal(launch), SIGINT);
    struct launch_death death;
    assert_false(launch_first_death(launch, &death));
    launch_destroy(launch);
    assert_no_children();
}

static void test_children_die_with_a_killed_parent(void **state)
{
    int ends[2];
    char pid_text[32] = "";
    assert_int_equal(pipe(ends), 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* orphans come to us, to be seen */
    const pid_t middle = fork();
    if (middle == 0) {
        struct launch *launch = NULL;
        char script[64];
        launch_create(&launch, LAUNCH_SHOW_NOTHING, NULL);
        snprintf(script, sizeof(script), "echo $$ >&%d; exec sleep 100", ends[1]);
        char shell[] = "sh", option[] = "-c";
        char *const words[] = {shell, option, script, NULL};
        launch_start(launch, "child", words, 0, NULL);
        for (;;)
            pause();
    }
    assert_true(read(ends[0], pid_text, sizeof(pid_text) - 1) > 0);
    const pid_t child = (pid_t)strtol(pid_text, NULL, 10);
    assert_true(child > 0);
    assert_int_equal(kill(middle, SIGKILL), 0);
    assert_int_equal(waitpid(middle, NULL, 0), middle);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child); /* now ours */
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_death_comes_with_label_code_and_last_words),
        cmocka_unit_test(test_a_flood_of_words_keeps_its_end),
        cmocka_unit_test(test_one_long_line_without_an_end),
        cmocka_unit_test(test_what_cannot_be_started_is_said_at_once),
        cmocka_unit_test(test_too_many_processes_have_a_remedy),
        cmocka_unit_test(test_the_end_takes_everybody_even_the_stubborn_and_their_children),
        cmocka_unit_test(test_a_gentle_end_lets_a_follower_leave_by_itself),
        cmocka_unit_test(test_who_is_told_first_ends_before_the_others),
        cmocka_unit_test(test_input_stays_open_until_the_end),
        cmocka_unit_test(test_one_that_talks_is_heard_by_the_caller),
        cmocka_unit_test(test_signals_are_read_and_not_passed_on),
        cmocka_unit_test(test_children_die_with_a_killed_parent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
