/* main.c - `longspan`, the front door: what every command needs before it begins, and its end. */
#include "cluster/front_door.h"
#include "cluster/standard_output.h"
#include "sys/bus_error.h"
#include "sys/descriptors.h"
#include "sys/log.h"
#include "sys/stack.h"
#include "sys/status.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* A file opened while 0, 1 or 2 is free would take its place, and be read or written by accident.
 */
static void fill_standard_descriptors(void)
{
    int descriptor;
    do
        descriptor = open("/dev/null", O_RDWR);
    while (descriptor >= 0 && descriptor <= 2);
    if (descriptor > 2)
        close(descriptor);
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    bus_error_explain();
    descriptors_raise();      /* some for each process that is started */
    signal(SIGPIPE, SIG_IGN); /* writing to a closed pipe is an error of that write, */
    signal(SIGXFSZ, SIG_IGN); /* and so is a file that grows past `ulimit -f` */
    struct log log;
    struct error error;
    log_open(&log, "longspan", 0);
    const enum status status = stack_check(&error);
    if (status != STATUS_OK) {
        log_error(&log, "%s", error.text);
        return status_exit_code(status);
    }
    const int code = front_door_main(argc, argv);
    const enum status written = standard_output_flush(&error); /* a help text, say */
    if (standard_output_is_unread())
        return 128 + SIGPIPE;
    if (code != EXIT_SUCCESS || written == STATUS_OK)
        return code;
    log_error(&log, "%s", error.text);
    return status_exit_code(written);
}
