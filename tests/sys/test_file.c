/* test_file.c - whole files in, whole files out, and temporary directories that go away. */
#include "sys/file.h"
#include "tests/cmocka.h"
#include "tests/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char path[FILE_PATH_BYTES + 16];

static int make_path(void **state)
{
    const int made = make_directory(state);
    snprintf(path, sizeof(path), "%s/data", directory);
    return made;
}

static unsigned count_entries(const char *folder)
{
    unsigned n = 0;
    DIR *entries = opendir(folder);
    assert_non_null(entries);
    while (readdir(entries) != NULL)
        n++;
    closedir(entries);
    return n - 2; /* . and .. */
}

/* Standard input goes on where it is, and may be a socket: neither is true of /dev/stdin. */
static void test_standard_input_is_read_from_where_it_is(void **state)
{
    char first, *text = NULL;
    size_t size = 0;
    const int kept = dup(STDIN_FILENO);
    assert_int_equal(file_write(path, "abcd", 4, 0644, NULL), STATUS_OK);
    const int file = open(path, O_RDONLY);
    assert_true(file >= 0 && dup2(file, STDIN_FILENO) == STDIN_FILENO);
    assert_int_equal(read(STDIN_FILENO, &first, 1), 1);
    assert_int_equal(file_read(NULL, 100, &text, &size, NULL), STATUS_OK);
    assert_string_equal(text, "bcd");
    free(text);

    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(write(pair[1], "xyz", 3), 3);
    close(pair[1]);
    assert_true(dup2(pair[0], STDIN_FILENO) == STDIN_FILENO);
    assert_int_equal(file_read(NULL, 100, &text, &size, NULL), STATUS_OK);
    assert_string_equal(text, "xyz");
    free(text);
    dup2(kept, STDIN_FILENO);
    close(kept);
    close(file);
    close(pair[0]);
}

static void test_written_files_are_read_back(void **state)
{
    static const size_t sizes[] = {0, 1, 4095, 65535, 65536, 300000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char *out = malloc(sizes[i] + 1), *in = NULL;
        size_t size = 1;
        memset(out, 'a' + (int)i, sizes[i] + 1);
        assert_int_equal(file_write(path, out, sizes[i], 0644, NULL), STATUS_OK);
        assert_int_equal(file_read(path, sizes[i], &in, &size, NULL), STATUS_OK);
        assert_int_equal(size, sizes[i]);
        assert_memory_equal(in, out, size);
        assert_int_equal(in[size], 0);
        free(in);
        free(out);
    }
    assert_int_equal(count_entries(directory), 1); /* no temporary file is left */
}

static void test_a_failed_write_leaves_the_old_file(void **state)
{
    struct error error;
    char inside[FILE_PATH_BYTES + 32];
    assert_int_equal(file_write(path, "old", 3, 0600, NULL), STATUS_OK);
    snprintf(inside, sizeof(inside), "%s/x", path); /* "directory" is a file */
    assert_int_equal(file_write(inside, "new", 3, 0600, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, inside));

    /* The target is a directory that is not empty: rename fails after the write. */
    snprintf(inside, sizeof(inside), "%s/full", directory);
    assert_int_equal(mkdir(inside, 0700), 0);
    char child[FILE_PATH_BYTES + 40];
    snprintf(child, sizeof(child), "%s/child", inside);
    assert_int_equal(file_write(child, "", 0, 0600, NULL), STATUS_OK);
    assert_int_equal(file_write(inside, "new", 3, 0600, &error), STATUS_IO);
    assert_int_equal(count_entries(directory), 2);
}

static void test_a_device_is_not_replaced(void **state)
{
    struct error error;
    struct stat info;
    assert_int_equal(symlink("/dev/null", path), 0); /* a link: a mistake costs no device */
    assert_int_equal(file_write(path, "x", 1, 0600, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "is no file"));
    assert_int_equal(lstat(path, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(count_entries(directory), 1);
}

static void test_what_could_be_written_is_told_before(void **state)
{
    struct error error;
    char inside[FILE_PATH_BYTES + 32];
    snprintf(inside, sizeof(inside), "%s/x", path);
    assert_int_equal(file_try_write(path, &error), STATUS_OK);
    assert_int_equal(count_entries(directory), 0);
    assert_int_equal(file_try_write(inside, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "its folder does not exist"));
    assert_non_null(strstr(error.text, inside));
    assert_int_equal(file_try_write(directory, &error), STATUS_INVALID);
    assert_int_equal(file_try_write("/dev/null", &error), STATUS_INVALID);
    assert_int_equal(file_write(path, "old", 3, 0600, NULL), STATUS_OK);
    assert_int_equal(file_try_write(path, &error), STATUS_OK);
    assert_int_equal(count_entries(directory), 1);
}

static void test_modes_are_those_asked_for(void **state)
{
    struct stat info;
    assert_int_equal(file_write(path, "x", 1, 0600, NULL), STATUS_OK);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(stat(directory, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
}

static void test_what_cannot_be_read(void **state)
{
    struct error error;
    char *data = NULL;
    size_t size = 42;
    assert_int_equal(file_read(path, 10, &data, &size, &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, path));
    assert_int_equal(file_read(directory, 10, &data, &size, &error), STATUS_INVALID);
    assert_int_equal(file_write(path, "12345678901", 11, 0600, NULL), STATUS_OK);
    assert_int_equal(file_read(path, 10, &data, &size, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "10 bytes"));
    assert_int_equal(file_read("/dev/zero", 100000, &data, &size, &error), STATUS_INVALID);
    assert_null(data);
    assert_int_equal(size, 42);
    /* A size of 0 that is none: /proc files are read to their end. */
    assert_int_equal(file_read("/proc/self/status", 1 << 20, &data, &size, &error), STATUS_OK);
    assert_true(size > 100);
    free(data);
}

static void test_only_our_directories_are_removed(void **state)
{
    char other[FILE_PATH_BYTES + 32], link[FILE_PATH_BYTES + 32];
    snprintf(other, sizeof(other), "%s/other", directory);
    assert_int_equal(mkdir(other, 0700), 0);
    assert_int_equal(file_remove_temporary(other), STATUS_INVALID);
    assert_int_equal(file_remove_temporary("longspan-x"), STATUS_INVALID);
    assert_int_equal(file_remove_temporary("/"), STATUS_INVALID);
    assert_int_equal(access(other, F_OK), 0);
    assert_int_equal(file_remove_temporary("/tmp/longspan-not-there"), STATUS_OK);

    /* A link inside is removed, what it points to stays. */
    char inner[FILE_PATH_BYTES] = "";
    assert_int_equal(file_make_temporary(inner, NULL), STATUS_OK);
    snprintf(link, sizeof(link), "%s/link", inner);
    assert_int_equal(symlink(other, link), 0);
    char file[FILE_PATH_BYTES + 40];
    snprintf(file, sizeof(file), "%s/kept", other);
    assert_int_equal(file_write(file, "", 0, 0600, NULL), STATUS_OK);
    assert_int_equal(file_remove_temporary(inner), STATUS_OK);
    assert_int_equal(access(inner, F_OK), -1);
    assert_int_equal(access(file, F_OK), 0);
}

static void test_a_long_tmpdir_is_refused(void **state)
{
    char made[FILE_PATH_BYTES] = "untouched", before[FILE_PATH_BYTES] = "";
    const char *old = getenv("TMPDIR");
    if (old != NULL)
        snprintf(before, sizeof(before), "%s", old);
    struct error error;
    setenv("TMPDIR", "/tmp/a-very-long-name/another-very-long-name/and-one-more-of-them-all", 1);
    assert_int_equal(file_make_temporary(made, &error), STATUS_INVALID);
    setenv("TMPDIR", "/not/there", 1);
    assert_int_equal(file_make_temporary(made, &error), STATUS_IO);
    assert_string_equal(made, "untouched");
    if (old != NULL)
        setenv("TMPDIR", before, 1);
    else
        unsetenv("TMPDIR");
}

/* As programs do that read signals from a descriptor. */
static void test_a_signal_ends_who_waits_for_a_pipe(void **state)
{
    assert_int_equal(mkfifo(path, 0600), 0);
    sigset_t term, before;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, &before);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char *data;
        size_t size;
        file_read(path, 100, &data, &size, NULL);
        _exit(0);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    int how;
    kill(child, SIGTERM);
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGTERM);
}

static void test_a_pipe_is_read_to_its_end(void **state)
{
    assert_int_equal(mkfifo(path, 0600), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const int fd = open(path, O_WRONLY);
        _exit(write(fd, "one ", 4) == 4 && usleep(20000) == 0 && write(fd, "two", 3) == 3 ? 0 : 1);
    }
    char *data = NULL;
    size_t size = 0;
    struct error error;
    assert_int_equal(file_read(path, 100, &data, &size, &error), STATUS_OK);
    assert_int_equal(size, 7);
    assert_string_equal(data, "one two");
    free(data);
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_standard_input_is_read_from_where_it_is, make_path,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(test_written_files_are_read_back, make_path,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(test_a_failed_write_leaves_the_old_file, make_path,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(test_a_device_is_not_replaced, make_path, remove_directory),
        cmocka_unit_test_setup_teardown(test_what_could_be_written_is_told_before, make_path,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(test_modes_are_those_asked_for, make_path,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_read, make_path, remove_directory),
        cmocka_unit_test_setup_teardown(test_a_signal_ends_who_waits_for_a_pipe, make_path,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(test_a_pipe_is_read_to_its_end, make_path,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(test_only_our_directories_are_removed, make_path,
                                        remove_directory),
        cmocka_unit_test(test_a_long_tmpdir_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
