/* test_cluster_file.c - what a cluster file may say, and what is said about the others. */
#include "cluster/cluster_file.h"

#include "tests/cmocka.h"
#include "tests/directory.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static char path[FILE_PATH_BYTES + 16];

static int make_path(void **state)
{
    const int made = make_directory(state);
    snprintf(path, sizeof(path), "%s/c.yaml", directory);
    return made;
}

static enum status read_text(struct cluster_file *file, const char *text, struct error *error)
{
    *file = (struct cluster_file){0};
    assert_int_equal(file_write(path, text, strlen(text), 0600, error), STATUS_OK);
    return cluster_file_read(file, path, error);
}

static void test_everything_that_can_be_said_arrives(void **state)
{
    const char text[] =
        "name: lab\n"
        "coordinator: {host: head, listen: \"tcp://0.0.0.0:5600\"}\n"
        "security: {cluster_key: /etc/longspan/cluster.key}\n"
        "workers:\n"
        "  - {host: gpu01, slots: 2, device: cuda}\n"
        "  - {host: cpu07, threads: 16, kernels: avx2}\n"
        "parallel: {pipeline: 3, tensor: 1}\n"
        "attention_nodes:\n"
        "  - {host: mem01, memory: 512GiB, threads: 64}\n"
        "  - {host: mem02, memory: 256GiB, weight: 0.5, name: second,\n"
        "     bind: \"tcp://*:7000\", advertise: \"tcp://10.0.0.9:7000\"}\n"
        "kv: {type: f32, memory: 8GiB, stripe: 512}\n"
        "ssh: {user: me, port: 2222, key: /k, config: /c}\n"
        "network: {interface: \"eth0,10.0.0.0/24,fd00::/64\"}\n"
        "programs: {bin: /opt/l/bin, mpi: /opt/mpi}\n"
        "weights: {push: true, dir: /var/cache/l}\n"
        "environment: [HOME, OMP_NUM_THREADS=1]\n"
        "hosts:\n"
        "  - {host: gpu01, device: cuda, devices: 2, memory: 80GiB, read_GB_s: 3000}\n"
        "  - {host: mem01, processors: 64, f32_GFLOP_s: 4000, int8_Gop_s: 9000,\n"
        "     link_Gbit_s: 25, rtt_us: 40}\n";
    struct cluster_file file;
    struct error error;
    assert_int_equal(read_text(&file, text, &error), STATUS_OK);
    assert_int_equal(file.n_hosts, 2);
    assert_string_equal(file.hosts[0].host.name, "gpu01");
    assert_string_equal(file.hosts[0].device, "cuda");
    assert_int_equal(file.hosts[0].devices, 2);
    assert_true(file.hosts[0].memory_bytes == (uint64_t)80 << 30);
    assert_true(file.hosts[0].read_bytes_per_s == 3e12 && file.hosts[0].f32_per_s == 0);
    assert_null(file.hosts[1].device);
    assert_int_equal(file.hosts[1].processors, 64);
    assert_true(file.hosts[1].f32_per_s == 4e12 && file.hosts[1].int8_per_s == 9e12);
    assert_true(file.hosts[1].link_bytes_per_s == 25e9 / 8);
    assert_true(file.hosts[1].round_trip_s > 39.99e-6 && file.hosts[1].round_trip_s < 40.01e-6);
    assert_string_equal(file.name, "lab");
    assert_string_equal(file.coordinator.name, "head");
    assert_string_equal(file.listen, "tcp://0.0.0.0:5600");
    assert_string_equal(file.cluster_key, "/etc/longspan/cluster.key");
    assert_int_equal(file.n_workers, 2);
    assert_int_equal(file.n_ranks, 3);
    assert_string_equal(file.workers[0].host.name, "gpu01");
    assert_int_equal(file.workers[0].slots, 2);
    assert_int_equal(file.workers[0].threads, 0);
    assert_int_equal(file.workers[1].slots, 1);
    assert_int_equal(file.workers[1].threads, 16);
    assert_string_equal(file.workers[1].kernels, "avx2");
    assert_int_equal(file.pipeline, 3);
    assert_int_equal(file.tensor, 1);
    assert_int_equal(file.n_nodes, 2);
    assert_true(file.nodes[0].memory_bytes == (uint64_t)512 << 30);
    assert_int_equal(file.nodes[0].threads, 64);
    assert_true(file.nodes[0].weight == 0.0f);
    assert_true(file.nodes[1].weight == 0.5f);
    assert_string_equal(file.nodes[1].name, "second");
    assert_string_equal(file.nodes[1].bind, "tcp://*:7000");
    assert_string_equal(file.nodes[1].advertise, "tcp://10.0.0.9:7000");
    assert_string_equal(file.kv_type, "f32");
    assert_true(file.kv_memory_bytes == (uint64_t)8 << 30);
    assert_int_equal(file.stripe, 512);
    assert_string_equal(file.ssh.user, "me");
    assert_int_equal(file.ssh.port, 2222);
    assert_string_equal(file.ssh.key, "/k");
    assert_string_equal(file.ssh.config, "/c");
    assert_string_equal(file.interface, "eth0,10.0.0.0/24,fd00::/64");
    assert_string_equal(file.bin, "/opt/l/bin");
    assert_string_equal(file.mpi, "/opt/mpi");
    assert_true(file.push);
    assert_string_equal(file.weights_dir, "/var/cache/l");
    assert_int_equal(file.n_environment, 2);
    assert_string_equal(file.environment[1], "OMP_NUM_THREADS=1");
    cluster_file_free(&file);
}

static void test_only_workers_are_required(void **state)
{
    static const char *const texts[] = {
        "workers: [{host: localhost}]\n",
        "workers: [{host: localhost}]\nparallel: auto\n",
        "workers: [{host: localhost}]\nparallel: {}\nattention_nodes: []\nkv: {}\n",
        "# a comment\n---\nworkers:\n- host: localhost\n",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct cluster_file file;
        struct error error;
        if (read_text(&file, texts[i], &error) != STATUS_OK)
            fail_msg("%s: %s", texts[i], error.text);
        assert_int_equal(file.n_ranks, 1);
        assert_int_equal(file.pipeline, 0);
        assert_int_equal(file.n_nodes, 0);
        assert_null(file.listen);
        cluster_file_free(&file);
    }
}

static void test_mistakes_are_named_with_their_line(void **state)
{
#define W "workers: [{host: localhost}]\n"
    const struct {
        const char *text, *said;
    } cases[] = {
        {"", "the file is empty"},
        {"name: x\n", "c.yaml:1: the key 'workers' is missing"},
        {"workers: []\n", "c.yaml:1: the list needs one entry at least"},
        {"- a\n", "keys with values belong here"},
        {"workers: a\n", "c.yaml:1: a list belongs here"},
        {"workers: [{host: [a]}]\n", "c.yaml:1: one value belongs here"},
        {"workers: [\n", "c.yaml:2: did not find expected node content"},
        {"workers:\n  - {host: a, slots: 2\nkv: {type: f16}\n", "c.yaml:3: did not find expected"},
        {W "kv:\n\t- x\n", "c.yaml:3: found character that cannot start any token (a tab: "},
        {"\x01\x02", "control characters"},
        {W "wrokers: 3\n", "c.yaml:2: Unexpected key: wrokers (did you mean 'workers'?)"},
        {W "attention_nodes:\n  - {host: a, memmory: 1G}\n", "c.yaml:3: Unexpected key: memmory"},
        {"workers:\n  - {slots: 2}\n", "c.yaml:2: "},
        {"workers:\n  - {host: a, slots: two}\n", "c.yaml:2: 'two' is no whole number"},
        {"workers:\n  - {host: a, slots: -1}\n", "'-1'"},
        {"workers: [{host: a, slots: 0}]\n", "workers entry 1: slots: 0"},
        {"workers: [{host: a, slots: 5000}]\n", "5000"},
        {"workers: [{host: a, slots: 4000}, {host: b, slots: 4000}]\n", "entry 2: more than 4096"},
        {"workers: [{host: a, threads: 99999}]\n", "threads: 99999"},
        {"workers: [{host: a, device: cuda1}]\n", "device 'cuda1': say cpu, cuda or cuda:N"},
        {"workers: [{host: a, device: tpu}]\n", "device 'tpu'"},
        {"workers: [{host: \"-oProxyCommand=x\"}]\n", "is no host name"},
        {"workers: [{host: \"a;b\"}]\n", "is no host name"},
        {"workers: [{host: \"me@-oProxyCommand=x\"}]\n", "is no host name"},
        {"workers: [{host: \"a,b\"}]\n", "is no host name"},
        {W "parallel: some\n", "parallel: 'some' is neither"},
        {W "parallel: {pipeline: 2}\n", "needs 2 ranks"},
        {W "parallel: {pipeline: 0}\n", "pipeline: 0"},
        {W "parallel: {tensor: 2}\n", "tensor: 2 does not divide"},
        {W "attention_nodes: [{host: a, memory: lots}]\n", "memory"},
        {W "attention_nodes: [{host: a, memory: 0}]\n", "memory"},
        {W "attention_nodes: [{host: a, weight: -1}]\n", "weight: -1"},
        {W "attention_nodes: [{host: a, weight: .nan}]\n", "c.yaml:2: '.nan' is no number"},
        {W "attention_nodes: [{host: a, bind: here}]\n", "bind"},
        {W "kv: {type: f8}\n", "'f8' is none of f16, bf16, q8_0, f32"},
        {W "kv: {stripe: 0}\n", "stripe: 0"},
        {W "coordinator: {listen: \"udp://x:1\"}\n", "listen"},
        {W "coordinator: {host: \"a b\"}\n", "is no host name"},
        {W "# ssh: {port: 1}\nssh:\n  port: 70000\n", "c.yaml:3: ssh: port: 70000"},
        {W "ssh: {key: id}\n", "c.yaml:2: ssh: key: 'id' does not begin with a slash"},
        {W "ssh: {config: \"/a b\"}\n", "paths without blanks"},
        {W "ssh: {key: \"/k'ey\"}\n", "paths without blanks"},
        {W "programs: {mpi: \"/opt/mpi;reboot\"}\n", "c.yaml:2: programs: mpi: '/opt/mpi;reboot'"},
        {W "ssh: {user: \"-F/x\"}\n", "is no host name"},
        {W "network: {interface: \"eth0;x\"}\n", "c.yaml:2: network: interface: 'eth0;x'"},
        {W "network: {interface: 10.0.0.0/33}\n", "'10.0.0.0/33'"},
        {W "network: {interface: \"eth0,\"}\n", "neither an interface"},
        {W "programs: {bin: here}\n", "programs: bin: 'here'"},
        {W "programs: {mpi: \"/x\\ty\"}\n", "blanks"},
        {W "weights: {push: maybe}\n", "c.yaml:2: weights: push: 'maybe'"},
        {W "weights: {dir: cache}\n", "weights: dir: 'cache'"},
        {W "environment: [\"A B=1\"]\n", "environment: 'A B=1' is neither NAME"},
        {W "environment: [1A]\n", "'1A'"},
        {W "environment: [\"A=1;B=2\"]\n", "without ;"},
        {"workers:\n  - host: a\n  - {slots: 1,\n     host: b, bin: x}\n",
         "c.yaml:4: workers entry 2: bin"},
        {W "attention_nodes:\n  - host: a # host: z\n  - host: \"b c\"\n",
         "c.yaml:4: attention_nodes entry 2"},
        {W W, "the key 'workers' is there twice"},
        {"a: &x 1\n" W, "Unexpected key"},
    };
#undef W
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cluster_file file;
        struct error error;
        const enum status status = read_text(&file, cases[i].text, &error);
        if (status != STATUS_INVALID && status != STATUS_UNSUPPORTED)
            fail_msg("accepted: %s", cases[i].text);
        if (strstr(error.text, cases[i].said) == NULL || strncmp(error.text, path, 1) != 0)
            fail_msg("%s said: %s", cases[i].text, error.text);
        assert_null(file.workers); /* untouched */
    }
    struct cluster_file file = {0};
    struct error error;
    assert_int_equal(cluster_file_read(&file, "/nowhere.yaml", &error), STATUS_NOT_FOUND);
}

static void test_auto_with_another_mistake_names_the_mistake(void **state)
{
    struct cluster_file file;
    struct error error;
    assert_int_equal(
        read_text(&file, "workers: [{host: localhost}]\nparallel: auto\nkv:\n  typ: f16\n", &error),
        STATUS_INVALID);
    assert_non_null(strstr(error.text, ":4: Unexpected key: typ"));
    assert_int_equal(read_text(&file, "workers: [{hots: localhost}]\nparallel: auto\n", &error),
                     STATUS_INVALID);
    assert_non_null(strstr(error.text, ":1: Unexpected key: hots"));
}

static void test_two_names_of_this_machine_are_one(void **state)
{
    const struct cluster_file_host a = {"localhost", true}, b = {"127.0.0.1", true};
    const struct cluster_file_host c = {"mem01", false}, d = {"mem02", false};
    assert_true(cluster_file_same_host(&a, &b) && cluster_file_same_host(&c, &c));
    assert_false(cluster_file_same_host(&a, &c) || cluster_file_same_host(&c, &d));
    struct cluster_file file;
    struct error error;
    assert_int_equal(read_text(&file,
                               "workers: [{host: 127.0.0.1}, {host: mem01}]\n"
                               "hosts: [{host: localhost, memory: 1GiB}, {host: mem01}]\n",
                               &error),
                     STATUS_OK);
    assert_true(file.workers[0].host.here && file.hosts[0].host.here && !file.hosts[1].host.here);
    cluster_file_free(&file);
    assert_int_equal(read_text(&file,
                               "workers: [{host: localhost}]\n"
                               "hosts: [{host: localhost}, {host: 127.0.0.1, device: cpu}]\n",
                               &error),
                     STATUS_INVALID);
    assert_non_null(strstr(error.text, "says already"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_that_can_be_said_arrives),
        cmocka_unit_test(test_only_workers_are_required),
        cmocka_unit_test(test_mistakes_are_named_with_their_line),
        cmocka_unit_test(test_auto_with_another_mistake_names_the_mistake),
        cmocka_unit_test(test_two_names_of_this_machine_are_one),
    };
    return cmocka_run_group_tests(tests, make_path, remove_directory);
}
