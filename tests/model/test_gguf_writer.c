/* What the writer wrote the reader gives back, and a failure leaves no file. */
#include "tests/cmocka.h"
#include "tests/model/fixtures.h"

#include <fcntl.h>
#include <signal.h>

#include <sys/wait.h>
#include <unistd.h>

static unsigned files_in_folder(void)
{
    unsigned n = 0;
    DIR *folder = opendir(fixture_folder);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        n += entry->d_name[0] != '.';
    closedir(folder);
    return n;
}

static struct gguf_writer *create(const char *path)
{
    struct gguf_writer *w = NULL;
    struct error error = {0};
    check_ok(gguf_writer_create(&w, path, &error), &error);
    return w;
}

static const struct model_string strings[] = {{"one", 3}, {"", 0}, {"t\0wo", 4}, {"\xff", 1}};
static const int16_t numbers[] = {-1, 0, 32767};

/* Of a type that nothing here makes: as from a file that was read. */
#define COPY_NUMBER(w, key_name, value_type, c_type, value)                                        \
    gguf_writer_copy_key(w,                                                                        \
                         &(struct model_key){.name = key_name,                                     \
                                             .type = value_type,                                   \
                                             .n = 1,                                               \
                                             .data = (const uint8_t *)&(c_type){value},            \
                                             .n_bytes = sizeof(c_type)},                           \
                         &e)

static void add_everything(struct gguf_writer *w)
{
    struct error e = {0};
    const float floats[] = {1.5f, -2};
    COPY_NUMBER(w, "u8", GGUF_VALUE_U8, uint8_t, 200);
    COPY_NUMBER(w, "i8", GGUF_VALUE_I8, int8_t, -100);
    gguf_writer_add_u16(w, "u16", 65535, &e);
    COPY_NUMBER(w, "i16", GGUF_VALUE_I16, int16_t, -32768);
    gguf_writer_add_u32(w, "u32", 4000000000u, &e);
    gguf_writer_add_i32(w, "i32", -2000000000, &e);
    COPY_NUMBER(w, "u64", GGUF_VALUE_U64, uint64_t, UINT64_MAX);
    COPY_NUMBER(w, "i64", GGUF_VALUE_I64, int64_t, INT64_MIN);
    gguf_writer_add_f32(w, "f32", 0.25f, &e);
    COPY_NUMBER(w, "f64", GGUF_VALUE_F64, double, 0.5);
    gguf_writer_add_bool(w, "yes", true, &e);
    gguf_writer_add_bool(w, "no", false, &e);
    gguf_writer_add_string(w, "string", "h\xc3\xa9", &e);
    gguf_writer_add_strings(w, "strings", strings, 4, &e);
    gguf_writer_add_array(w, "i16s", GGUF_VALUE_I16, numbers, 3, &e);
    gguf_writer_add_array(w, "f32s", GGUF_VALUE_F32, floats, 2, &e);
    gguf_writer_add_array(w, "nothing", GGUF_VALUE_U8, NULL, 0, &e);
    check_ok(e.status, &e);
}

static void check_everything(const struct model_file *g)
{
    uint32_t u32;
    uint64_t u64;
    float f32;
    bool yes = false, no = true;
    struct model_string string, *list;
    int32_t *i32s;
    float *f32s;
    size_t n;
    assert_int_equal(model_key_count(g), 17);
    assert_string_equal(model_key_at(g, 0)->name, "u8");
    assert_int_equal(model_get_u32(g, "u8", &u32, NULL), STATUS_OK);
    assert_int_equal(u32, 200);
    assert_int_equal(model_get_u32(g, "u16", &u32, NULL), STATUS_OK);
    assert_int_equal(u32, 65535);
    assert_int_equal(model_get_u32(g, "u32", &u32, NULL), STATUS_OK);
    assert_int_equal(u32, 4000000000u);
    assert_int_equal(model_get_u64(g, "u64", &u64, NULL), STATUS_OK);
    assert_true(u64 == UINT64_MAX);
    assert_int_equal(model_get_f32(g, "f32", &f32, NULL), STATUS_OK);
    assert_true(f32 == 0.25f);
    assert_int_equal(model_get_f32(g, "f64", &f32, NULL), STATUS_OK);
    assert_true(f32 == 0.5f);
    assert_int_equal(model_get_bool(g, "yes", &yes, NULL), STATUS_OK);
    assert_int_equal(model_get_bool(g, "no", &no, NULL), STATUS_OK);
    assert_true(yes && !no);
    assert_int_equal(model_get_string(g, "string", &string, NULL), STATUS_OK);
    assert_true(model_string_equals(string, "h\xc3\xa9"));
    assert_int_equal(model_get_strings(g, "strings", &list, &n, NULL), STATUS_OK);
    assert_int_equal(n, 4);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(list[i].n_bytes, strings[i].n_bytes);
        assert_memory_equal(list[i].data, strings[i].data, strings[i].n_bytes);
    }
    free(list);
    assert_int_equal(model_get_i32s(g, "i16s", &i32s, &n, NULL), STATUS_OK);
    assert_int_equal(n, 3);
    assert_int_equal(i32s[0], -1);
    assert_int_equal(i32s[2], 32767);
    free(i32s);
    assert_int_equal(model_get_f32s(g, "f32s", &f32s, &n, NULL), STATUS_OK);
    assert_int_equal(n, 2);
    assert_true(f32s[0] == 1.5f && f32s[1] == -2);
    free(f32s);
    assert_int_equal(model_get_i32s(g, "nothing", &i32s, &n, NULL), STATUS_OK);
    assert_int_equal(n, 0);
    free(i32s);
}

static void test_every_key_comes_back(void **state)
{
    struct error error = {0};
    struct gguf_writer *w = create(fixture_path("keys.gguf"));
    add_everything(w);
    check_ok(gguf_writer_finish(w, &error), &error);
    struct model_file *g = fixture_open(fixture_path("keys.gguf"));
    check_everything(g);

    w = create(fixture_path("copy.gguf"));
    for (size_t i = 0; i < model_key_count(g); i++)
        check_ok(gguf_writer_copy_key(w, model_key_at(g, i), &error), &error);
    check_ok(gguf_writer_finish(w, &error), &error);
    model_close(g);
    g = fixture_open(fixture_path("copy.gguf"));
    check_everything(g);
    model_close(g);
    size_t n_first, n_copy;
    char *first = fixture_read(fixture_path("keys.gguf"), &n_first);
    char *copy = fixture_read(fixture_path("copy.gguf"), &n_copy);
    assert_int_equal(n_first, n_copy);
    assert_memory_equal(first, copy, n_copy);
    free(first);
    free(copy);
}

static void test_getters_tell_absent_from_wrong(void **state)
{
    struct error error = {0};
    uint32_t u32 = 1;
    uint64_t u64 = 1;
    float f32 = 1;
    bool flag = true;
    struct model_string string = {NULL, 0}, *list = NULL;
    int32_t *i32s = NULL;
    float *f32s = NULL;
    size_t n = 0;
    struct gguf_writer *w = create(fixture_path("keys.gguf"));
    add_everything(w);
    check_ok(gguf_writer_finish(w, &error), &error);
    struct model_file *g = fixture_open(fixture_path("keys.gguf"));
    assert_int_equal(model_get_u32(g, "absent", &u32, &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, "absent"));
    assert_int_equal(model_get_strings(g, "absent", &list, &n, &error), STATUS_NOT_FOUND);
    assert_int_equal(model_get_u32(g, "string", &u32, &error), STATUS_INVALID);
    assert_int_equal(model_get_u32(g, "u64", &u32, &error), STATUS_INVALID);
    assert_int_equal(model_get_u32(g, "i32", &u32, &error), STATUS_INVALID);
    assert_int_equal(model_get_u64(g, "i64", &u64, &error), STATUS_INVALID);
    assert_int_equal(model_get_u64(g, "i8", &u64, &error), STATUS_INVALID);
    assert_int_equal(model_get_u32(g, "f32", &u32, &error), STATUS_INVALID);
    assert_int_equal(model_get_f32(g, "u32", &f32, &error), STATUS_INVALID);
    assert_int_equal(model_get_bool(g, "u8", &flag, &error), STATUS_INVALID);
    assert_int_equal(model_get_string(g, "strings", &string, &error), STATUS_INVALID);
    assert_int_equal(model_get_strings(g, "string", &list, &n, &error), STATUS_INVALID);
    assert_int_equal(model_get_strings(g, "f32s", &list, &n, &error), STATUS_INVALID);
    assert_int_equal(model_get_f32s(g, "strings", &f32s, &n, &error), STATUS_INVALID);
    assert_int_equal(model_get_i32s(g, "f32s", &i32s, &n, &error), STATUS_INVALID);
    assert_int_equal(model_get_i32s(g, "strings", &i32s, &n, &error), STATUS_INVALID);
    assert_true(u32 == 1 && u64 == 1 && f32 == 1 && flag && list == NULL && n == 0);
    model_close(g);
}

static void test_tensors_come_back_from_any_pieces(void **state)
{
    struct error error = {0};
    uint8_t data[34 * 6];
    const uint64_t a[] = {32, 3, 2}, b[] = {5};
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)i;
    for (size_t piece = 1; piece <= sizeof(data); piece += 7) {
        struct gguf_writer *w = create(fixture_path("tensors.gguf"));
        gguf_writer_add_u32(w, "k", 1, &error);
        gguf_writer_declare(w, "a", GGUF_TYPE_Q8_0, 3, a, &error);
        gguf_writer_declare(w, "b", GGUF_TYPE_F32, 1, b, &error);
        for (size_t at = 0; at < sizeof(data); at += piece)
            gguf_writer_data(w, data + at, sizeof(data) - at < piece ? sizeof(data) - at : piece,
                             &error);
        gguf_writer_data(w, data, 20, &error);
        check_ok(error.status, &error);
        check_ok(gguf_writer_finish(w, &error), &error);
        struct model_file *g = fixture_open(fixture_path("tensors.gguf"));
        const struct model_tensor *t = model_tensor_find(g, "a");
        assert_int_equal(t->n_bytes, sizeof(data));
        assert_memory_equal(t->data, data, sizeof(data));
        assert_int_equal(t->dims[2], 2);
        t = model_tensor_find(g, "b");
        assert_int_equal(t->n_bytes, 20);
        assert_memory_equal(t->data, data, 20);
        model_close(g);
    }
}

static void test_failures_stick_and_leave_no_file(void **state)
{
    struct error error = {0}, again = {0};
    const uint64_t dims[] = {4}, bad[] = {33};
    const unsigned before = files_in_folder();

    struct gguf_writer *w = create(fixture_path("bad.gguf"));
    gguf_writer_add_u32(w, "k", 1, NULL);
    assert_int_equal(gguf_writer_add_u32(w, "k", 1, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "twice"));
    assert_int_equal(gguf_writer_add_u32(w, "l", 1, &again), STATUS_INVALID);
    assert_string_equal(error.text, again.text);
    assert_int_equal(gguf_writer_finish(w, &again), STATUS_INVALID);
    assert_string_equal(error.text, again.text);

    w = create(fixture_path("bad.gguf"));
    assert_int_equal(gguf_writer_declare(w, "t", GGUF_TYPE_Q8_0, 1, bad, &error), STATUS_INVALID);
    gguf_writer_destroy(w);
    w = create(fixture_path("bad.gguf"));
    assert_int_equal(gguf_writer_add_u32(w, "general.alignment", 64, &error), STATUS_INVALID);
    gguf_writer_destroy(w);
    w = create(fixture_path("bad.gguf"));
    assert_int_equal(gguf_writer_add_array(w, "s", GGUF_VALUE_STRING, NULL, 0, &error),
                     STATUS_INVALID);
    gguf_writer_destroy(w);

    w = create(fixture_path("bad.gguf")); /* a tensor without all its bytes */
    gguf_writer_declare(w, "t", GGUF_TYPE_F32, 1, dims, NULL);
    assert_int_equal(gguf_writer_data(w, dims, 8, NULL), STATUS_OK);
    assert_int_equal(gguf_writer_add_u32(w, "late", 1, NULL), STATUS_INVALID);
    assert_int_equal(gguf_writer_finish(w, &error), STATUS_INVALID);

    w = create(fixture_path("bad.gguf")); /* more bytes than declared */
    gguf_writer_declare(w, "t", GGUF_TYPE_F32, 1, (uint64_t[]){1}, NULL);
    assert_int_equal(gguf_writer_data(w, dims, 5, &error), STATUS_INVALID);
    assert_int_equal(gguf_writer_finish(w, &error), STATUS_INVALID);

    w = create(fixture_path("bad.gguf"));
    gguf_writer_destroy(w);
    gguf_writer_destroy(NULL);
    assert_int_equal(files_in_folder(), before);
    assert_int_equal(gguf_writer_create(&w, fixture_path("no/such/folder.gguf"), &error),
                     STATUS_INVALID);
    assert_int_equal(files_in_folder(), before);
}

static void test_a_device_is_not_replaced(void **state)
{
    struct gguf_writer *w = NULL;
    struct error error;
    const char *path = fixture_path("null.gguf"); /* a link: a mistake costs no device */
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_int_equal(gguf_writer_create(&w, path, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "is no file"));
    assert_null(w);
    unlink(path);
}

/* Ctrl-C, or worse, in the middle of gigabytes. */
static void test_a_killed_process_leaves_no_file(void **state)
{
    const int probe = open(fixture_path("."), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (probe < 0)
        skip(); /* the file system has no files without names */
    close(probe);
    const unsigned before = files_in_folder();
    const int signals[] = {SIGINT, SIGTERM, SIGKILL};
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct gguf_writer *w;
            const uint64_t dims[] = {1 << 16};
            static const char data[1 << 17];
            if (gguf_writer_create(&w, fixture_path("killed.gguf"), NULL) != STATUS_OK ||
                gguf_writer_declare(w, "t", GGUF_TYPE_F32, 1, dims, NULL) != STATUS_OK ||
                gguf_writer_data(w, data, sizeof(data), NULL) != STATUS_OK)
                _exit(1);
            signal(signals[i], SIG_DFL);
            raise(signals[i]);
            _exit(1);
        }
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how) && WTERMSIG(how) == signals[i]);
        assert_int_equal(files_in_folder(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_key_comes_back),
        cmocka_unit_test(test_getters_tell_absent_from_wrong),
        cmocka_unit_test(test_tensors_come_back_from_any_pieces),
        cmocka_unit_test(test_failures_stick_and_leave_no_file),
        cmocka_unit_test(test_a_device_is_not_replaced),
        cmocka_unit_test(test_a_killed_process_leaves_no_file),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
