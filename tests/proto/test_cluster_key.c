/* test_cluster_key.c - a key file is private, whole, and a pair; everything else is refused. */
#include "proto/cluster_key.h"

#include "tests/cmocka.h"
#include "tests/directory.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char path[FILE_PATH_BYTES + 16];

static int make_path(void **state)
{
    const int made = make_directory(state);
    snprintf(path, sizeof(path), "%s/key", directory);
    return made;
}

static void test_a_new_key_is_private_and_can_be_read(void **state)
{
    struct cluster_key key, again;
    struct stat info;
    umask(0);
    assert_int_equal(cluster_key_generate(path, NULL), STATUS_OK);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    assert_int_equal(cluster_key_read(path, &key, NULL), STATUS_OK);
    assert_int_equal(strlen(key.public_text), CLUSTER_KEY_LETTERS);
    assert_int_equal(strlen(key.secret_text), CLUSTER_KEY_LETTERS);

    struct error error;
    assert_int_equal(cluster_key_generate(path, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, path));
    assert_int_equal(cluster_key_read(path, &again, NULL), STATUS_OK);
    assert_memory_equal(&key, &again, sizeof(key)); /* not overwritten */

    cluster_key_wipe(&key);
    assert_int_equal(key.secret_text[0], 0);
}

static void test_a_key_that_others_may_read_is_refused(void **state)
{
    struct cluster_key key;
    assert_int_equal(cluster_key_generate(path, NULL), STATUS_OK);
    static const mode_t open_modes[] = {0644, 0640, 0604, 0620, 0601, 0660};
    for (size_t i = 0; i < sizeof(open_modes) / sizeof(open_modes[0]); i++) {
        struct error error = {0};
        assert_int_equal(chmod(path, open_modes[i]), 0);
        assert_int_equal(cluster_key_read(path, &key, &error), STATUS_INVALID);
        assert_non_null(strstr(error.text, "chmod 600"));
    }
    assert_int_equal(chmod(path, 0400), 0);
    assert_int_equal(cluster_key_read(path, &key, NULL), STATUS_OK);
}

static void refuse(const char *text, size_t size, const char *reason)
{
    struct cluster_key key = {"untouched", "untouched"};
    struct error error = {0};
    assert_int_equal(file_write(path, text, size, 0600, NULL), STATUS_OK);
    assert_int_equal(cluster_key_read(path, &key, &error), STATUS_INVALID);
    if (strstr(error.text, reason) == NULL || strstr(error.text, path) == NULL)
        fail_msg("%s", error.text);
    assert_string_equal(key.secret_text, "untouched");
}

#define PUBLIC "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
#define SECRET "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"
/* The test pair of ZeroMQ RFC 26; the other public key is its server's. */
#define CLIENT_PUBLIC "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
#define CLIENT_SECRET "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"

static void test_a_known_pair_is_accepted(void **state)
{
    struct cluster_key key;
    static const char text[] =
        "# a comment\r\n\n  public = \"" PUBLIC "\"  \nsecret = \"" SECRET "\"";
    assert_int_equal(file_write(path, text, strlen(text), 0600, NULL), STATUS_OK);
    assert_int_equal(cluster_key_read(path, &key, NULL), STATUS_OK);
    assert_string_equal(key.public_text, PUBLIC);
    assert_string_equal(key.secret_text, SECRET);
}

static void test_other_files_are_refused(void **state)
{
    static const char *const wrong[] = {
        "",
        "GGUF and so on",
        "public = \"" PUBLIC "\"\n",
        "secret = \"" SECRET "\"\n",
        "public = \"" PUBLIC "\"\npublic = \"" PUBLIC "\"\nsecret = \"" SECRET "\"\n",
        "public = " PUBLIC "\nsecret = " SECRET "\n",
        "public = \"" PUBLIC "\" x\nsecret = \"" SECRET "\"\n",
        "public = \"short\"\nsecret = \"" SECRET "\"\n",
        "public = \"\"\nsecret = \"\"\n",
        "public = \"" PUBLIC "0\"\nsecret = \"" SECRET "\"\n",
        "public = \"~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~\"\nsecret = \"" SECRET "\"\n",
        "public = \"~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~\"\nsecret = "
        "\"~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~\"\n",
        "public = \"" PUBLIC "\"\nsecret = \"" SECRET "\"\nport = \"5600\"\n",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        refuse(wrong[i], strlen(wrong[i]), "is not a cluster key");

    static char large[5000];
    memset(large, '#', sizeof(large));
    refuse(large, sizeof(large), "is not a cluster key");
    refuse("#\0#", 3, "is not a cluster key");
    static const char mixed[] = "public = \"" CLIENT_PUBLIC "\"\nsecret = \"" SECRET "\"\n";
    refuse(mixed, strlen(mixed), "is damaged");
}

static void test_what_cannot_be_opened(void **state)
{
    struct cluster_key key;
    struct error error;
    assert_int_equal(cluster_key_read(path, &key, &error), STATUS_NOT_FOUND);
    assert_int_equal(cluster_key_read(directory, &key, &error), STATUS_INVALID);
    assert_int_equal(mkfifo(path, 0600), 0); /* must not wait for a writer */
    assert_int_equal(cluster_key_read(path, &key, &error), STATUS_INVALID);
    char inside[FILE_PATH_BYTES + 32];
    snprintf(inside, sizeof(inside), "%s/not/there", directory);
    assert_int_equal(cluster_key_generate(inside, &error), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_new_key_is_private_and_can_be_read, make_path,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(test_a_key_that_others_may_read_is_refused, make_path,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(test_a_known_pair_is_accepted, make_path, remove_directory),
        cmocka_unit_test_setup_teardown(test_other_files_are_refused, make_path, remove_directory),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_opened, make_path, remove_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
