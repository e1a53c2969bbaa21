/* agents.c - one loop over all pipes: requests go out while answers come in. */
#include "cluster/agents.h"

#include "cluster/agent.h"
#include "cluster/commands.h"
#include "cluster/ssh.h"
#include "cluster/trouble.h"
#include "proto/protocol.h"
#include "sys/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

enum {
    GREETING_US = 15000000,
    QUIET_US = 60000000,
    OTHERS_US = 1000000,     /* after a host has failed */
    LAST_WORDS_US = 1000000, /* for ssh to die and say why, after its pipe has ended */
    CHUNK_BYTES = 1 << 20,
    NOISE_BYTES = 160,
    MOST_NOISE_LINES = 1000,
    SSH_FAILED = 255, /* the exit status of ssh itself */
};

struct agent {
    const struct layout_host *host;
    uint32_t child;
    bool greeted, waits; /* waits: for an answer */
    uint64_t heard_us;   /* when it last said or took something */
    /* What goes out: the request, then bytes, then files. */
    char *request;
    size_t request_bytes, sent;
    const struct agents_question *question;
    uint32_t file;
    int descriptor; /* of that file; -1: not open */
    off_t offset;
    /* What comes in: a line that is not whole yet. */
    char *line;
    size_t line_bytes;
    uint32_t noise_lines;
    char noise[NOISE_BYTES]; /* the newest line before the greeting: a login script's */
};

struct agents {
    struct launch *launch;
    struct agent *agents;
    struct pollfd *polls;
    uint32_t n;
};

/* ---- open, close ----------------------------------------------------------------------------- */

/* Our own folder of `longspan`, for hosts where nothing else is said. */
static void own_folder(char folder[LAYOUT_TEXT_BYTES])
{
    const ssize_t length = readlink("/proc/self/exe", folder, LAYOUT_TEXT_BYTES - 1);
    folder[length < 0 ? 0 : length] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        *slash = '\0';
}

static enum status start(struct agents *agents, struct agent *agent, const struct layout *layout,
                         const char *folder, struct error *error)
{
    struct words there = {0}, ssh = {0};
    char path[2 * LAYOUT_TEXT_BYTES], label[COMMANDS_LABEL_BYTES];
    snprintf(path, sizeof(path), "%s/longspan",
             agent->host->bin != NULL ? agent->host->bin : folder);
    snprintf(label, sizeof(label), "the agent on %.60s", agent->host->name);
    words_add_list(&there, "exec", path, "agent", (char *)NULL);
    char *line = there.failed ? NULL : words_quoted(there.argv);
    ssh_add_login(&ssh, &layout->ssh, agent->host->name, line != NULL ? line : "");
    enum status status = line == NULL || ssh.failed
                             ? error_set(error, STATUS_NO_MEMORY, "no memory for a command line")
                             : STATUS_OK;
    agent->child = launch_count(agents->launch);
    if (status == STATUS_OK)
        status = launch_start(agents->launch, label, ssh.argv, LAUNCH_TALKS, error);
    if (status == STATUS_OK) /* few wake-ups for large files; a small pipe does as well */
        fcntl(launch_pipes(agents->launch, agent->child).to, F_SETPIPE_SZ, CHUNK_BYTES);
    free(line);
    words_free(&there);
    words_free(&ssh);
    return status;
}

enum status agents_open(struct agents **agents, struct launch *launch, const struct layout *layout,
                        struct error *error)
{
    char folder[LAYOUT_TEXT_BYTES];
    enum status status = ssh_check("logs in to the other machines", error);
    if (status != STATUS_OK)
        return status;
    struct agents *made = calloc(1, sizeof(*made));
    if (made == NULL || (made->agents = calloc(layout->n_hosts, sizeof(*made->agents))) == NULL ||
        (made->polls = calloc(2 * layout->n_hosts + 1, sizeof(*made->polls))) == NULL) {
        agents_close(made);
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u hosts", layout->n_hosts);
    }
    made->launch = launch;
    own_folder(folder);
    for (; status == STATUS_OK && made->n < layout->n_hosts; made->n++) {
        struct agent *agent = &made->agents[made->n];
        *agent = (struct agent){.host = &layout->hosts[made->n], .descriptor = -1};
        agent->line = malloc(AGENT_MOST_ANSWER_BYTES);
        status = agent->line == NULL
                     ? error_set(error, STATUS_NO_MEMORY, "no memory for %u hosts", layout->n_hosts)
                     : start(made, agent, layout, folder, error);
    }
    if (status == STATUS_OK)
        *agents = made;
    else
        agents_close(made);
    return status;
}

static void forget_request(struct agent *agent)
{
    free(agent->request);
    agent->request = NULL;
    if (agent->descriptor >= 0)
        close(agent->descriptor);
    agent->descriptor = -1;
}

void agents_close(struct agents *agents)
{
    if (agents == NULL)
        return;
    for (uint32_t i = 0; i < agents->n; i++) {
        forget_request(&agents->agents[i]);
        free(agents->agents[i].line);
    }
    free(agents->agents);
    free(agents->polls);
    free(agents);
}

/* ---- sending --------------------------------------------------------------------------------- */

static bool has_more(const struct agent *agent)
{
    const struct agents_question *question = agent->question;
    return agent->request != NULL &&
           (agent->sent < agent->request_bytes + question->n_bytes ||
            (question->files != NULL && agent->file < question->files->n));
}

/* A part of the request or of the bytes behind it. As write(2). */
static ssize_t send_words(struct agent *agent, int to)
{
    const bool of_request = agent->sent < agent->request_bytes;
    const size_t at = of_request ? agent->sent : agent->sent - agent->request_bytes;
    const char *data = of_request ? agent->request : agent->question->bytes;
    const size_t n_bytes = (of_request ? agent->request_bytes : agent->question->n_bytes) - at;
    const ssize_t put = write(to, data + at, n_bytes);
    agent->sent += put > 0 ? (size_t)put : 0;
    return put;
}

/* A part of the file that is on turn. */
static ssize_t send_file(struct agent *agent, int to)
{
    const struct weights_file *file = &agent->question->files->files[agent->file];
    if (agent->descriptor < 0)
        agent->descriptor = open(file->path, O_RDONLY | O_CLOEXEC);
    if (agent->descriptor < 0)
        return -1;
    const uint64_t left = file->n_bytes - (uint64_t)agent->offset;
    const ssize_t put = left == 0 ? 0
                                  : sendfile(to, agent->descriptor, &agent->offset,
                                             left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES);
    if (put == 0 && left > 0) {
        errno = ENODATA; /* it has become shorter */
        return -1;
    }
    if ((uint64_t)agent->offset == file->n_bytes) {
        close(agent->descriptor);
        agent->descriptor = -1;
        agent->offset = 0;
        agent->file++;
    }
    return put;
}

/* As much as the pipe takes. A pipe that broke is told by what came, or did not come, from
 * there. */
static enum status send_some(struct agents *agents, struct agent *agent,
                             struct write_progress *progress, struct error *error)
{
    const int to = launch_pipes(agents->launch, agent->child).to;
    while (has_more(agent)) {
        const bool of_file = agent->sent == agent->request_bytes + agent->question->n_bytes;
        const ssize_t put = of_file ? send_file(agent, to) : send_words(agent, to);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && (errno == EAGAIN || errno == EPIPE))
            return STATUS_OK;
        if (put < 0)
            return error_set(error, STATUS_IO, "%s: %s",
                             of_file ? agent->question->files->files[agent->file].path
                                     : agent->host->name,
                             strerror(errno));
        agent->heard_us = clock_us();
        if (of_file && progress != NULL)
            write_progress_add(progress, (uint64_t)put);
    }
    return STATUS_OK;
}

/* ---- receiving ------------------------------------------------------------------------------- */

static enum status take_greeting(struct agent *agent, struct error *error)
{
    const size_t length = strlen(AGENT_GREETING);
    if (strncmp(agent->line, AGENT_GREETING, length) != 0) {
        snprintf(agent->noise, sizeof(agent->noise), "%.*s", NOISE_BYTES - 1, agent->line);
        return ++agent->noise_lines < MOST_NOISE_LINES
                   ? STATUS_OK
                   : error_set(error, STATUS_UNREACHABLE,
                               "%s: says '%s' and more, and no greeting of an agent",
                               agent->host->name, agent->noise);
    }
    json_t *greeting = json_loads(agent->line + length, JSON_REJECT_DUPLICATES, NULL);
    const char *version = json_string_value(json_object_get(greeting, "version"));
    enum status status = STATUS_OK;
    if (json_integer_value(json_object_get(greeting, "protocol")) != AGENT_PROTOCOL ||
        version == NULL || strcmp(version, LONGSPAN_VERSION) != 0)
        status = error_set(
            error, STATUS_UNREACHABLE, "%s: has Longspan %.40s, here is %s: install the same there",
            agent->host->name, version != NULL ? version : "of another kind", LONGSPAN_VERSION);
    agent->greeted = status == STATUS_OK;
    json_decref(greeting);
    return status;
}

static enum status take_answer(struct agent *agent, struct agents_question *question,
                               struct error *error)
{
    json_t *answer = json_loads(agent->line, JSON_REJECT_DUPLICATES, NULL);
    const char *failure = json_string_value(json_object_get(answer, "error"));
    enum status status = STATUS_OK;
    if (failure != NULL)
        status =
            error_set(error,
                      json_integer_value(json_object_get(answer, "exit")) == 2 ? STATUS_INVALID
                                                                               : STATUS_UNREACHABLE,
                      "%s: %s", agent->host->name, failure);
    else if (!json_is_object(answer) || !agent->waits || has_more(agent))
        status = error_set(error, STATUS_PROTOCOL, "%s: its agent answered what it must not",
                           agent->host->name);
    if (status != STATUS_OK) {
        json_decref(answer);
        return status;
    }
    agent->waits = false;
    question->answer = answer;
    forget_request(agent);
    return STATUS_OK;
}

/* Its connection has ended: ssh says why, or the shell over there. */
static enum status explain_end(struct agents *agents, struct agent *agent, struct error *error)
{
    const uint64_t deadline = clock_us() + LAST_WORDS_US;
    struct launch_death death;
    while (!launch_has_died(agents->launch, agent->child) && clock_us() < deadline) {
        struct pollfd item = {.fd = launch_descriptor(agents->launch), .events = POLLIN};
        poll(&item, 1, 20);
        launch_progress(agents->launch);
    }
    launch_told(agents->launch, agent->child, &death);
    const bool no_login = death.code == SSH_FAILED && !agent->greeted;
    const char *remedy = trouble_remedy(death.said);
    if (remedy == NULL)
        remedy = agent->greeted ? "see that host's kernel log"
                 : no_login     ? "does ssh log in there without a password?"
                            : "is Longspan there? programs: {bin: FOLDER} in the cluster file says "
                              "where";
    char last[NOISE_BYTES];
    trouble_last_line(last, sizeof(last), death.said[0] != '\0' ? death.said : agent->noise);
    return error_set(error, STATUS_UNREACHABLE, "%s: %s (%s): %s", agent->host->name,
                     agent->greeted ? "its agent ended"
                     : no_login     ? "could not be reached by ssh"
                                    : "the agent could not be started",
                     last[0] != '\0' ? last : "without a word", remedy);
}

static enum status receive_some(struct agents *agents, struct agent *agent,
                                struct agents_question *question, struct error *error)
{
    const int from = launch_pipes(agents->launch, agent->child).from;
    char data[4096];
    for (;;) {
        const ssize_t got = read(from, data, sizeof(data));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return STATUS_OK;
        if (got <= 0)
            return explain_end(agents, agent, error);
        agent->heard_us = clock_us();
        for (ssize_t i = 0; i < got; i++) {
            if (agent->line_bytes == AGENT_MOST_ANSWER_BYTES)
                return error_set(error, STATUS_PROTOCOL, "%s: a line without an end",
                                 agent->host->name);
            agent->line[agent->line_bytes++] = data[i];
            if (data[i] != '\n')
                continue;
            agent->line[agent->line_bytes - 1] = '\0';
            agent->line_bytes = 0;
            const enum status status =
                !agent->greeted ? take_greeting(agent, error) : take_answer(agent, question, error);
            if (status != STATUS_OK)
                return status;
        }
    }
}

/* ---- asking ---------------------------------------------------------------------------------- */

static enum status begin(struct agent *agent, struct agents_question *question, struct error *error)
{
    agent->question = question;
    agent->waits = question->request != NULL;
    agent->sent = 0;
    agent->file = 0;
    agent->offset = 0;
    agent->heard_us = clock_us();
    question->answer = NULL;
    if (!agent->waits)
        return STATUS_OK;
    char *text = json_dumps(question->request, JSON_COMPACT);
    const int length = text != NULL ? asprintf(&agent->request, "%s\n", text) : -1;
    free(text);
    agent->request_bytes = length < 0 ? 0 : (size_t)length;
    if (length < 0)
        agent->request = NULL;
    return length >= 0 ? STATUS_OK
                       : error_set(error, STATUS_NO_MEMORY, "no memory for a question to %s",
                                   agent->host->name);
}

/* Waits for any of them; false: nothing is awaited any more. */
static bool wait_for_some(struct agents *agents)
{
    uint32_t n = 0;
    bool waits = false;
    for (uint32_t i = 0; i < agents->n; i++) {
        const struct agent *agent = &agents->agents[i];
        const struct launch_pipes pipes = launch_pipes(agents->launch, agent->child);
        waits |= agent->waits;
        agents->polls[n++] =
            (struct pollfd){.fd = agent->waits ? pipes.from : -1, .events = POLLIN};
        agents->polls[n++] =
            (struct pollfd){.fd = agent->waits && agent->greeted && has_more(agent) ? pipes.to : -1,
                            .events = POLLOUT};
    }
    agents->polls[n++] = (struct pollfd){.fd = launch_descriptor(agents->launch), .events = POLLIN};
    if (waits)
        poll(agents->polls, n, 200);
    return waits;
}

static enum status look_at(struct agents *agents, uint32_t index, struct agents_question *question,
                           struct write_progress *progress, struct error *error)
{
    struct agent *agent = &agents->agents[index];
    enum status status = STATUS_OK;
    if (agents->polls[2 * index].revents != 0)
        status = receive_some(agents, agent, question, error);
    if (status == STATUS_OK && agents->polls[2 * index + 1].revents != 0)
        status = send_some(agents, agent, progress, error);
    if (status == STATUS_OK && agent->waits &&
        clock_us() - agent->heard_us > (agent->greeted ? QUIET_US : GREETING_US))
        status =
            error_set(error, STATUS_UNREACHABLE, "%s: its agent %s", agent->host->name,
                      agent->greeted ? "has said nothing for a minute"
                                     : "does not greet: is `longspan` there a program of ours?");
    return status;
}

/* Looks at all of them; what fails is awaited no more. `first` keeps the failure of the first host
 * in order, of `n_failed`. */
static void look_at_all(struct agents *agents, struct agents_question *questions,
                        struct write_progress *progress, struct error *first, uint32_t *host,
                        uint32_t *n_failed)
{
    for (uint32_t i = 0; i < agents->n; i++) {
        struct error inner = {0};
        if (!agents->agents[i].waits ||
            look_at(agents, i, &questions[i], progress, &inner) == STATUS_OK)
            continue;
        agents->agents[i].waits = false;
        if (*n_failed == 0 || i < *host) {
            *first = inner;
            *host = i;
        }
        ++*n_failed;
    }
}

/* Until all have answered or failed: often several hosts fail alike, and all shall be known. Little
 * is awaited of the others once one has. */
static enum status wait_for_all(struct agents *agents, struct agents_question *questions,
                                struct write_progress *progress, struct error *error)
{
    struct error first = {0};
    uint32_t host = 0, n_failed = 0;
    uint64_t deadline_us = UINT64_MAX;
    while (clock_us() < deadline_us && wait_for_some(agents)) {
        launch_progress(agents->launch);
        const int number = launch_signal(agents->launch);
        if (number != 0)
            return error_set(error, STATUS_CANCELLED, "ended by signal %d (%s)", number,
                             strsignal(number));
        look_at_all(agents, questions, progress, &first, &host, &n_failed);
        if (n_failed > 0 && deadline_us == UINT64_MAX)
            deadline_us = clock_us() + OTHERS_US;
    }
    if (n_failed == 0)
        return STATUS_OK;
    char others[NOISE_BYTES] = "";
    if (n_failed > 1)
        snprintf(others, sizeof(others), " (and %u more host%s)", n_failed - 1,
                 n_failed == 2 ? "" : "s");
    return error_set(error, first.status, "%.*s%s", (int)(sizeof(first.text) - sizeof(others)),
                     first.text, others);
}

enum status agents_ask(struct agents *agents, struct agents_question *questions,
                       struct write_progress *progress, struct error *error)
{
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < agents->n && status == STATUS_OK; i++)
        status = begin(&agents->agents[i], &questions[i], error);
    if (status == STATUS_OK)
        status = wait_for_all(agents, questions, progress, error);
    for (uint32_t i = 0; i < agents->n; i++) {
        json_decref(questions[i].request);
        questions[i].request = NULL;
        if (status != STATUS_OK) {
            json_decref(questions[i].answer);
            questions[i].answer = NULL;
        }
    }
    return status;
}
