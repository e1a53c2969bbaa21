/* test_trouble.c - what ssh and mpirun said, as they said it, finds its remedy. */
#include "cluster/trouble.h"

#include "tests/cmocka.h"

#include <string.h>

static void test_known_troubles_have_a_remedy(void **state)
{
    static const struct {
        const char *said, *remedy;
    } cases[] = {
        {"root@cpu1: Permission denied (publickey).\r\n", "ssh-copy-id"},
        {"No ED25519 host key is known for cpu1 and you have requested strict checking.\nHost key "
         "verification failed.\n",
         "ssh-keyscan"},
        {"@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.\n",
         "ssh-keygen -R"},
        {"ssh: Could not resolve hostname far: Name or service not known\n", "/etc/hosts"},
        {"ssh: connect to host cpu1 port 22: Connection refused\n", "openssh-server"},
        {"ssh: connect to host cpu1 port 22: No route to host\n", "firewall"},
        {"ssh: connect to host cpu1 port 22: Connection timed out\n", "firewall"},
        {"bash: line 1: orted: command not found\n-----\nORTE was unable to reliably start one or "
         "more daemons.\n* an "
         "inability to create a connection back to mpirun due to a\n",
         "programs: {mpi: FOLDER}"},
        {"sh: 1: exec: /opt/none/longspan: not found\n", "programs: {bin: FOLDER}"},
        {"worker: error while loading shared libraries: libmpi.so.40: cannot open\n",
         "LD_LIBRARY_PATH"},
        {"worker: /lib/libc.so.6: version `GLIBC_2.38' not found\n", "build them there"},
        {"mpirun noticed that process rank 0 with PID 0 on node vm exited on signal 7 (Bus "
         "error).\n",
         "TMPDIR (/tmp) or /dev/shm is full"},
        {"Open MPI detected a mismatch in versions between two processes.\n", "same Open MPI"},
        {"[head:1] [[1,0],0] ORTE_ERROR_LOG: Data unpack would read past end of buffer in file "
         "x.c\n",
         "different Open MPIs"},
        {"None of the TCP networks specified to be included for out-of-band communications\ncould "
         "be found:\n",
         "10.0.0.0/24"},
        {"WARNING: Open MPI accepted a TCP connection from what appears to be a\nanother Open MPI "
         "process but cannot find a "
         "corresponding process\nentry for that peer.\n",
         "network: {interface: eth0}"},
        {"ORTE has lost communication with a remote daemon.\n", "kernel log"},
        {"There are not enough slots available in the system\n", "fewer slots"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *remedy = trouble_remedy(cases[i].said);
        if (remedy == NULL || strstr(remedy, cases[i].remedy) == NULL)
            fail_msg("%s: %s", cases[i].said, remedy != NULL ? remedy : "no remedy");
    }
    assert_null(trouble_remedy(""));
    assert_null(trouble_remedy("worker: error: the model does not fit\n"));
}

static void test_the_last_line_is_no_frame(void **state)
{
    char line[32];
    trouble_last_line(line, sizeof(line), "one\ntwo\r\n-----\n@@@@\n\n");
    assert_string_equal(line, "two");
    trouble_last_line(line, sizeof(line), "----\n");
    assert_string_equal(line, "");
    trouble_last_line(line, sizeof(line), "a line that is much longer than the room for it");
    assert_string_equal(line, "a line that is much longer than");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_troubles_have_a_remedy),
        cmocka_unit_test(test_the_last_line_is_no_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
