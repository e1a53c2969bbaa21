/* test_held_folder.c - what a killed owner leaves goes with the next start, and nothing else does. */
#include "sys/held_folder.h"
#include "sys/neighbour.h"
#include "tests/cmocka.h"
#include "tests/directory.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char place[FILE_PATH_BYTES + 32]; /* of the last name asked for */

static const char *named(const char *name)
{
    snprintf(place, sizeof(place), "%s/%s", directory, name);
    return place;
}

static bool is_there(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

/* Every start looks; the folder that it makes goes at once. */
static void start_another(void)
{
    struct held_folder folder = {0};
    assert_int_equal(held_folder_make(&folder, directory, NULL), STATUS_OK);
    assert_true(fcntl(folder.lock, F_GETFD) & FD_CLOEXEC); /* or a child would hold it */
    char path[FILE_PATH_BYTES];
    memcpy(path, folder.path, sizeof(path));
    assert_true(is_there(path));
    held_folder_remove(&folder);
    assert_false(is_there(path));
    assert_string_equal(folder.path, "");
    held_folder_remove(&folder); /* a zeroed one */
}

/* A process that holds a folder with a file in it, until it is killed. */
static pid_t start_owner(struct held_folder *folder)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const pid_t owner = fork();
    if (owner == 0) {
        struct held_folder made = {0};
        char inside[FILE_PATH_BYTES + 16];
        if (held_folder_make(&made, directory, NULL) != STATUS_OK)
            _exit(1);
        snprintf(inside, sizeof(inside), "%s/socket", made.path);
        if (file_write(inside, "", 0, 0600, NULL) != STATUS_OK ||
            write(ends[1], &made, sizeof(made)) != (ssize_t)sizeof(made))
            _exit(1);
        for (;;)
            pause();
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], folder, sizeof(*folder)), sizeof(*folder));
    close(ends[0]);
    return owner;
}

static void test_a_killed_owner_leaves_nothing_for_long(void **state)
{
    struct held_folder first, second;
    const pid_t owners[] = {start_owner(&first), start_owner(&second)};
    start_another();
    assert_true(is_there(first.path) && is_there(second.path));
    assert_int_equal(kill(owners[0], SIGKILL), 0);
    assert_int_equal(waitpid(owners[0], NULL, 0), owners[0]);
    assert_true(is_there(first.path)); /* nobody could remove it */
    start_another();
    assert_false(is_there(first.path));
    assert_true(is_there(second.path));
    assert_int_equal(kill(owners[1], SIGKILL), 0);
    assert_int_equal(waitpid(owners[1], NULL, 0), owners[1]);
    start_another();
    assert_false(is_there(second.path));
}

/* A folder as a killed owner leaves it, but for what the test says. */
static void leave_folder(const char *name, const char *held_in)
{
    char link[FILE_PATH_BYTES + 64];
    assert_int_equal(mkdir(named(name), 0700), 0);
    snprintf(link, sizeof(link), "%s/.held", named(name));
    if (held_in != NULL)
        assert_int_equal(symlink(held_in, link), 0);
}

static void test_what_was_not_left_by_us_stays(void **state)
{
    char boot[NEIGHBOUR_BOOT_BYTES], longer[NEIGHBOUR_BOOT_BYTES + 1];
    neighbour_boot(boot);
    snprintf(longer, sizeof(longer), "%sx", boot);
    leave_folder("longspan-unheld", NULL);
    leave_folder("longspan-elsewhere", "00000000-0000-0000-0000-000000000000");
    leave_folder("longspan-longer", longer);
    leave_folder("another-name", boot);
    leave_folder("longspan-left", boot);
    assert_int_equal(symlink("another-name", named("longspan-link")), 0);
    assert_int_equal(mkfifo(named("longspan-pipe"), 0600), 0);
    assert_int_equal(file_write(named("longspan-file"), "", 0, 0600, NULL), STATUS_OK);
    const bool as_root = geteuid() == 0;
    if (as_root) {
        leave_folder("longspan-theirs", boot);
        assert_int_equal(chown(named("longspan-theirs"), 65534, 65534), 0);
    }
    start_another();
    assert_false(is_there(named("longspan-left")));
    static const char *const stay[] = {
        "longspan-unheld", "longspan-elsewhere", "longspan-longer", "another-name/.held",
        "longspan-link",   "longspan-pipe",      "longspan-file"};
    for (size_t i = 0; i < sizeof(stay) / sizeof(stay[0]); i++)
        assert_true(is_there(named(stay[i])));
    assert_true(!as_root || is_there(named("longspan-theirs/.held")));
}

static void test_a_parent_that_is_not_there_is_told(void **state)
{
    struct error error;
    struct held_folder folder = {0};
    assert_int_equal(held_folder_make(&folder, "/not/there", &error), STATUS_IO);
    assert_non_null(strstr(error.text, "/not/there"));
    assert_string_equal(folder.path, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_killed_owner_leaves_nothing_for_long, make_directory,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(test_what_was_not_left_by_us_stays, make_directory,
                                        remove_directory),
        cmocka_unit_test(test_a_parent_that_is_not_there_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
