/* launch.c - fork, exec, pipes, signalfd; one epoll descriptor over all of them. */
#include "cluster/launch.h"

#include "sys/clock.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    LABEL_BYTES = 96,
    LINE_BYTES = 2048,
    LATEST_BYTES = 256,
    LAST_LINES = 8,
    GENTLE_US = 700000,
    PATIENCE_US = 1500000, /* from SIGTERM to SIGKILL */
    LAST_US = 600000,      /* for the kernel, after SIGKILL */
    EXEC_FAILED = 127,
};

struct child {
    char label[LABEL_BYTES];
    pid_t pid;
    unsigned flags;
    int output, input, talk; /* our ends of its pipes; -1: closed or none */
    bool dead;
    int code;
    uint32_t order;               /* of dying, from 1 */
    char tail[LAUNCH_TAIL_BYTES]; /* the newest bytes of its output */
    size_t tail_bytes;
    char line[LINE_BYTES]; /* an unfinished line */
    size_t line_bytes;
    char latest[LATEST_BYTES];
};

struct launch {
    struct child *children;
    uint32_t n, n_dead;
    enum launch_show show;
    int epoll, signals;
    sigset_t old_mask;
    int signal; /* the first one */
    uint32_t n_signals;
    bool ended, hushed; /* hushed: what a child says that was told to end concerns nobody */
    char words[LAUNCH_TAIL_BYTES + 1]; /* what launch_told tells */
    char said[LAUNCH_TAIL_BYTES];
};

/* ---- create, destroy ------------------------------------------------------------------------- */

static bool watch(struct launch *launch, int descriptor)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    return epoll_ctl(launch->epoll, EPOLL_CTL_ADD, descriptor, &event) == 0;
}

enum status launch_create(struct launch **launch, enum launch_show show, struct error *error)
{
    struct launch *made = calloc(1, sizeof(*made));
    if (made == NULL || (made->children = calloc(LAUNCH_MOST, sizeof(*made->children))) == NULL) {
        free(made);
        return error_set(error, STATUS_NO_MEMORY, "no memory to watch processes");
    }
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGHUP);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, &made->old_mask);
    made->show = show;
    made->epoll = epoll_create1(EPOLL_CLOEXEC);
    made->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    /* Grandchildren whose parent dies become ours. */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    if (made->epoll < 0 || made->signals < 0 || !watch(made, made->signals)) {
        const int code = errno;
        launch_destroy(made);
        return error_set(error, STATUS_NO_MEMORY, "cannot watch processes: %s", strerror(code));
    }
    *launch = made;
    return STATUS_OK;
}

static void close_if_open(int *descriptor)
{
    if (*descriptor >= 0)
        close(*descriptor);
    *descriptor = -1;
}

void launch_destroy(struct launch *launch)
{
    if (launch == NULL)
        return;
    launch_end(launch, false);
    for (uint32_t i = 0; i < launch->n; i++) {
        close_if_open(&launch->children[i].output);
        close_if_open(&launch->children[i].input);
        close_if_open(&launch->children[i].talk);
    }
    close_if_open(&launch->signals);
    close_if_open(&launch->epoll);
    prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
    sigprocmask(SIG_SETMASK, &launch->old_mask, NULL);
    free(launch->children);
    free(launch);
}

/* ---- start ----------------------------------------------------------------------------------- */

/* Between fork and exec: only what is allowed there. `report` is closed by a successful exec. */
static void become(char *const *words, pid_t parent, int input, int output, int talk, int report,
                   const sigset_t *mask)
{
    setpgid(0, 0);
    /* If the parent died before this took effect, nobody will tell us: look once. */
    prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
    if (getppid() != parent)
        _exit(EXEC_FAILED);
    if (input < 0)
        input = open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(input, 0);
    dup2(talk >= 0 ? talk : output, 1);
    dup2(output, 2);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execvp(words[0], words);
    const int code = errno;
    (void)!write(report, &code, sizeof(code));
    _exit(EXEC_FAILED);
}

static void close_pipe(int pipe_ends[2])
{
    close_if_open(&pipe_ends[0]);
    close_if_open(&pipe_ends[1]);
}

enum status launch_start(struct launch *launch, const char *label, char *const *words,
                         unsigned flags, struct error *error)
{
    int input[2] = {-1, -1}, output[2] = {-1, -1}, talk[2] = {-1, -1}, report[2] = {-1, -1};
    const bool talks = (flags & LAUNCH_TALKS) != 0;
    if (launch->n == LAUNCH_MOST)
        return error_set(error, STATUS_EXHAUSTED, "more than %d processes", LAUNCH_MOST);
    if (((talks || (flags & LAUNCH_NEEDS_INPUT) != 0) && pipe2(input, O_CLOEXEC) != 0) ||
        (talks && pipe2(talk, O_CLOEXEC) != 0) || pipe2(output, O_CLOEXEC) != 0 ||
        pipe2(report, O_CLOEXEC) != 0) {
        const int code = errno;
        close_pipe(input);
        close_pipe(talk);
        close_pipe(output);
        return error_set(error, STATUS_UNREACHABLE, "%s: no pipe: %s", label, strerror(code));
    }
    const pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become(words, parent, input[0], output[1], talk[1], report[1], &launch->old_mask);
    int code = pid < 0 ? errno : 0;
    close_if_open(&input[0]);
    close_if_open(&output[1]);
    close_if_open(&talk[1]);
    close_if_open(&report[1]);
    ssize_t got = 0;
    while (pid > 0 && (got = read(report[0], &code, sizeof(code))) < 0 && errno == EINTR)
        continue;
    close_if_open(&report[0]);
    if (pid < 0 || got == (ssize_t)sizeof(code)) {
        if (pid > 0)
            waitpid(pid, NULL, 0);
        close_if_open(&input[1]);
        close_if_open(&talk[0]);
        close_if_open(&output[0]);
        return error_set(error, STATUS_UNREACHABLE, "%s: cannot start %s: %s%s", label, words[0],
                         strerror(code),
                         code == EAGAIN ? ": more processes and threads must be allowed (ulimit "
                                          "-u, TasksMax= of systemd, the container's pids limit)"
                                        : "");
    }
    struct child *child = &launch->children[launch->n++];
    *child = (struct child){
        .pid = pid, .output = output[0], .input = input[1], .talk = talk[0], .flags = flags};
    snprintf(child->label, sizeof(child->label), "%s", label);
    fcntl(child->output, F_SETFL, O_NONBLOCK);
    if (talks) {
        fcntl(child->input, F_SETFL, O_NONBLOCK);
        fcntl(child->talk, F_SETFL, O_NONBLOCK);
    }
    if (!watch(launch, child->output)) {
        code = errno;
        return error_set(error, STATUS_UNREACHABLE, "%s: cannot be watched: %s", label,
                         strerror(code));
    }
    return STATUS_OK;
}

/* ---- listening ------------------------------------------------------------------------------- */

static void keep_tail(struct child *child, const char *data, size_t size)
{
    if (size > LAUNCH_TAIL_BYTES - 1) {
        data += size - (LAUNCH_TAIL_BYTES - 1);
        size = LAUNCH_TAIL_BYTES - 1;
    }
    if (child->tail_bytes + size > LAUNCH_TAIL_BYTES - 1) {
        const size_t dropped = child->tail_bytes + size - (LAUNCH_TAIL_BYTES - 1);
        memmove(child->tail, child->tail + dropped, child->tail_bytes - dropped);
        child->tail_bytes -= dropped;
    }
    memcpy(child->tail + child->tail_bytes, data, size);
    child->tail_bytes += size;
    child->tail[child->tail_bytes] = '\0';
}

/* Whether all that it says goes to standard error. */
static bool is_shown(const struct launch *launch, const struct child *child)
{
    return launch->show == LAUNCH_SHOW_ALL ||
           (launch->show == LAUNCH_SHOW_WARNINGS && (child->flags & LAUNCH_SHOWN) != 0);
}

static void show_line(struct launch *launch, struct child *child)
{
    child->line[child->line_bytes] = '\0';
    snprintf(child->latest, sizeof(child->latest), "%.*s", LATEST_BYTES - 1, child->line);
    const bool wanted =
        is_shown(launch, child) ||
        (launch->show == LAUNCH_SHOW_WARNINGS && strstr(child->line, ": warning: ") != NULL &&
         strstr(child->line, ": warning: request ") == NULL);
    if (wanted && (!launch->hushed || launch->show == LAUNCH_SHOW_ALL)) {
        child->line[child->line_bytes] = '\n';
        (void)!write(2, child->line, child->line_bytes + 1);
    }
    child->line_bytes = 0;
}

static void hear(struct launch *launch, struct child *child)
{
    char data[4096];
    for (;;) {
        const ssize_t got = child->output < 0 ? 0 : read(child->output, data, sizeof(data));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return; /* nothing now */
        if (got == 0)
            break;
        keep_tail(child, data, (size_t)got);
        for (ssize_t i = 0; i < got; i++) {
            if (data[i] == '\n' || child->line_bytes == LINE_BYTES - 1)
                show_line(launch, child);
            if (data[i] != '\n')
                child->line[child->line_bytes++] = data[i];
        }
    }
    if (child->line_bytes != 0)
        show_line(launch, child);
    close_if_open(&child->output); /* leaves the epoll set too */
}

static void collect(struct launch *launch)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (uint32_t i = 0; i < launch->n; i++)
            if (launch->children[i].pid == pid && !launch->children[i].dead) {
                struct child *child = &launch->children[i];
                child->dead = true;
                child->order = ++launch->n_dead;
                child->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
                hear(launch, child);
            }
}

int launch_descriptor(const struct launch *launch)
{
    return launch->epoll;
}

void launch_progress(struct launch *launch)
{
    struct signalfd_siginfo info;
    while (read(launch->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        if (info.ssi_signo != SIGCHLD && launch->n_signals++ == 0)
            launch->signal = (int)info.ssi_signo;
    for (uint32_t i = 0; i < launch->n; i++)
        if (launch->children[i].output >= 0)
            hear(launch, &launch->children[i]);
    collect(launch);
}

const char *launch_latest(const struct launch *launch, uint32_t index)
{
    return index < launch->n ? launch->children[index].latest : "";
}

uint32_t launch_count(const struct launch *launch)
{
    return launch->n;
}

struct launch_pipes launch_pipes(const struct launch *launch, uint32_t index)
{
    const struct child *child = &launch->children[index];
    return (struct launch_pipes){.to = child->input, .from = child->talk};
}

int launch_signal(const struct launch *launch)
{
    return launch->signal;
}

uint32_t launch_n_signals(const struct launch *launch)
{
    return launch->n_signals;
}

void launch_forget_signals(struct launch *launch)
{
    launch->signal = 0;
    launch->n_signals = 0;
}

void launch_tell(struct launch *launch, uint32_t index, int number)
{
    if (!launch->children[index].dead)
        kill(launch->children[index].pid, number);
}

bool launch_has_died(const struct launch *launch, uint32_t index)
{
    return launch->children[index].dead;
}

static bool is_worth_showing(const char *line, size_t length, bool errors_only)
{
    const char *mark = strstr(line, ": error: ");
    if (errors_only)
        return mark != NULL && mark < line + length;
    return length > strspn(line, "- "); /* mpirun draws frames */
}

/* The lines that say what went wrong; the last few where none does. The last one may have come
 * without its newline, and gets one: a byte more than there was. */
static void choose_lines(char out[LAUNCH_TAIL_BYTES + 1], const char *tail, bool errors_only)
{
    uint32_t n = 0, skip = 0;
    for (const char *line = tail; *line != '\0';) {
        const size_t length = strcspn(line, "\n");
        n += is_worth_showing(line, length, errors_only);
        line += length + (line[length] == '\n');
    }
    if (n > LAST_LINES)
        skip = n - LAST_LINES;
    size_t used = 0;
    for (const char *line = tail; *line != '\0';) {
        const size_t length = strcspn(line, "\n");
        const bool wanted = is_worth_showing(line, length, errors_only);
        if (wanted && skip == 0) {
            memcpy(out + used, line, length);
            used += length;
            out[used++] = '\n';
        }
        skip -= wanted && skip != 0;
        line += length + (line[length] == '\n');
    }
    out[used] = '\0';
}

bool launch_first_death(struct launch *launch, struct launch_death *death)
{
    const struct child *first = NULL;
    for (uint32_t i = 0; i < launch->n; i++) {
        const struct child *child = &launch->children[i];
        if (child->dead && (first == NULL || child->order < first->order))
            first = child;
    }
    if (first != NULL)
        launch_told(launch, (uint32_t)(first - launch->children), death);
    return first != NULL;
}

void launch_told(struct launch *launch, uint32_t index, struct launch_death *death)
{
    const struct child *child = &launch->children[index];
    memcpy(launch->said, child->tail, sizeof(launch->said));
    launch->said[child->tail_bytes] = '\0';
    choose_lines(launch->words, launch->said, true);
    if (launch->words[0] == '\0')
        choose_lines(launch->words, launch->said, false);
    *death = (struct launch_death){child->label, child->dead ? child->code : -1, child->flags,
                                   is_shown(launch, child) ? "" : launch->words, launch->said};
}

/* ---- ending ---------------------------------------------------------------------------------- */

/* `first`: of the children only those with LAUNCH_FIRST. */
static bool are_dead(const struct launch *launch, bool first)
{
    for (uint32_t i = 0; i < launch->n; i++)
        if (!launch->children[i].dead &&
            (!first || (launch->children[i].flags & LAUNCH_FIRST) != 0))
            return false;
    return true;
}

static void tell(struct launch *launch, uint32_t index, int number)
{
    struct child *child = &launch->children[index];
    if (child->dead)
        return; /* its number may be somebody else's by now; end_inherited finds what it left */
    close_if_open(&child->input);
    if (kill(-child->pid, number) != 0)
        kill(child->pid, number); /* it has not made its group yet */
}

static void wait_for(struct launch *launch, bool first, uint64_t deadline_us)
{
    launch_progress(launch);
    for (uint64_t now = clock_us(); !are_dead(launch, first) && now < deadline_us;
         now = clock_us()) {
        struct pollfd item = {.fd = launch->epoll, .events = POLLIN};
        poll(&item, 1, (int)((deadline_us - now) / 1000 + 1));
        launch_progress(launch);
    }
}

/* The parent of a process, by /proc/PID/stat: "PID (NAME) STATE PPID ...". */
static pid_t parent_of(const char *pid)
{
    char path[64], text[512];
    snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t got = file < 0 ? -1 : read(file, text, sizeof(text) - 1);
    if (file >= 0)
        close(file);
    if (got <= 0)
        return -1;
    text[got] = '\0';
    const char *after = strrchr(text, ')');
    int parent = -1;
    return after != NULL && sscanf(after, ") %*c %d", &parent) == 1 ? (pid_t)parent : -1;
}

/* Kills what has become our child by its parent's death, and what becomes so then. */
static void end_inherited(struct launch *launch)
{
    for (int round = 0; round < 20; round++) {
        collect(launch);
        DIR *processes = opendir("/proc");
        bool found = false;
        for (struct dirent *entry; processes != NULL && (entry = readdir(processes)) != NULL;)
            if (isdigit((unsigned char)entry->d_name[0]) && parent_of(entry->d_name) == getpid()) {
                found = true;
                kill((pid_t)strtol(entry->d_name, NULL, 10), SIGKILL);
            }
        if (processes != NULL)
            closedir(processes);
        if (!found)
            return;
        clock_sleep_us(10000);
    }
}

static void tell_gently(struct launch *launch, bool first)
{
    for (uint32_t i = 0; i < launch->n; i++) {
        const unsigned flags = launch->children[i].flags;
        if (((flags & LAUNCH_FIRST) != 0) != first)
            continue;
        if ((flags & (LAUNCH_NEEDS_INPUT | LAUNCH_TALKS)) != 0)
            close_if_open(&launch->children[i].input);
        else if ((flags & LAUNCH_LEAVES) == 0)
            tell(launch, i, SIGTERM);
    }
}

void launch_end(struct launch *launch, bool gently)
{
    if (launch->ended)
        return;
    launch->ended = true;
    if (gently) {
        const uint64_t deadline_us = clock_us() + GENTLE_US;
        tell_gently(launch, true);
        wait_for(launch, true, deadline_us);
        tell_gently(launch, false);
        wait_for(launch, false, deadline_us);
    }
    launch->hushed = true;
    for (uint32_t i = 0; i < launch->n; i++)
        tell(launch, i, SIGTERM);
    wait_for(launch, false, clock_us() + PATIENCE_US);
    for (uint32_t i = 0; i < launch->n; i++)
        tell(launch, i, SIGKILL);
    wait_for(launch, false, clock_us() + LAST_US);
    if (launch->n != 0)
        end_inherited(launch);
}
