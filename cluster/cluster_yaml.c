/* cluster_yaml.c - the schema.
 *
 * A value that may be a mapping or a word (`parallel`) is not something that a
 * schema can say: the file is loaded by two schemas, and when neither fits, the one that came
 * further tells what is wrong. */
#include "cluster/cluster_yaml.h"

#include "cluster/cluster_file.h"
#include "sys/file.h"
#include "sys/options.h"

#include <cyaml/cyaml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum {
    MOST_FILE_BYTES = 1 << 20,
    MOST_TEXT = 4096,
    WHERE_BYTES = 512,
    MESSAGE_BYTES = 512,
};

#define MAYBE (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define TEXT(structure, member)                                                                    \
    CYAML_FIELD_STRING_PTR(#member, MAYBE, struct structure, member, 1, MOST_TEXT)
#define HOST(structure)                                                                            \
    CYAML_FIELD_STRING_PTR("host", CYAML_FLAG_POINTER, struct structure, host, 1,                  \
                           CLUSTER_YAML_HOST_BYTES - 1)
#define NUMBER(structure, member) CYAML_FIELD_UINT_PTR(#member, MAYBE, struct structure, member)
#define REAL(structure, member)   CYAML_FIELD_FLOAT_PTR(#member, MAYBE, struct structure, member)
#define MAPPING(structure, member, fields)                                                         \
    CYAML_FIELD_MAPPING_PTR(#member, MAYBE, struct structure, member, fields)

static const cyaml_schema_field_t coordinator_fields[] = {
    TEXT(yaml_coordinator, host), TEXT(yaml_coordinator, listen), CYAML_FIELD_END};
static const cyaml_schema_field_t security_fields[] = {TEXT(yaml_security, cluster_key),
                                                       CYAML_FIELD_END};
static const cyaml_schema_field_t worker_fields[] = {
    HOST(yaml_worker),      TEXT(yaml_worker, device),  TEXT(yaml_worker, kernels),
    TEXT(yaml_worker, bin), NUMBER(yaml_worker, slots), NUMBER(yaml_worker, threads),
    CYAML_FIELD_END};
static const cyaml_schema_field_t parallel_fields[] = {
    NUMBER(yaml_parallel, pipeline), NUMBER(yaml_parallel, tensor), CYAML_FIELD_END};
static const cyaml_schema_field_t node_fields[] = {HOST(yaml_node),
                                                   TEXT(yaml_node, memory),
                                                   TEXT(yaml_node, device),
                                                   TEXT(yaml_node, kernels),
                                                   TEXT(yaml_node, name),
                                                   TEXT(yaml_node, bind),
                                                   TEXT(yaml_node, advertise),
                                                   TEXT(yaml_node, bin),
                                                   NUMBER(yaml_node, threads),
                                                   REAL(yaml_node, weight),
                                                   CYAML_FIELD_END};
static const cyaml_schema_field_t hardware_fields[] = {HOST(yaml_hardware),
                                                       TEXT(yaml_hardware, device),
                                                       TEXT(yaml_hardware, memory),
                                                       NUMBER(yaml_hardware, devices),
                                                       NUMBER(yaml_hardware, processors),
                                                       REAL(yaml_hardware, read_GB_s),
                                                       REAL(yaml_hardware, f32_GFLOP_s),
                                                       REAL(yaml_hardware, int8_Gop_s),
                                                       REAL(yaml_hardware, link_Gbit_s),
                                                       REAL(yaml_hardware, rtt_us),
                                                       CYAML_FIELD_END};
static const cyaml_schema_field_t kv_fields[] = {TEXT(yaml_kv, type), TEXT(yaml_kv, memory),
                                                 NUMBER(yaml_kv, stripe), CYAML_FIELD_END};
static const cyaml_schema_field_t ssh_fields[] = {TEXT(yaml_ssh, user), TEXT(yaml_ssh, key),
                                                  TEXT(yaml_ssh, config), NUMBER(yaml_ssh, port),
                                                  CYAML_FIELD_END};
static const cyaml_schema_field_t network_fields[] = {TEXT(yaml_network, interface),
                                                      CYAML_FIELD_END};
static const cyaml_schema_field_t programs_fields[] = {TEXT(yaml_programs, bin),
                                                       TEXT(yaml_programs, mpi), CYAML_FIELD_END};
static const cyaml_schema_field_t weights_fields[] = {TEXT(yaml_weights, push),
                                                      TEXT(yaml_weights, dir), CYAML_FIELD_END};
static const cyaml_schema_value_t variable_value = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 1, MOST_TEXT)};
static const cyaml_schema_value_t worker_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct yaml_worker, worker_fields)};
static const cyaml_schema_value_t node_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct yaml_node, node_fields)};
static const cyaml_schema_value_t hardware_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct yaml_hardware, hardware_fields)};

/* The same but for `parallel`. */
#define FILE_FIELDS(parallel_field)                                                                \
    TEXT(yaml_file, name), MAPPING(yaml_file, coordinator, coordinator_fields),                    \
        MAPPING(yaml_file, security, security_fields),                                             \
        CYAML_FIELD_SEQUENCE("workers", CYAML_FLAG_POINTER, struct yaml_file, workers,             \
                             &worker_value, 1, CLUSTER_FILE_MOST_RANKS),                           \
        parallel_field,                                                                            \
        CYAML_FIELD_SEQUENCE("attention_nodes", MAYBE, struct yaml_file, attention_nodes,          \
                             &node_value, 0, CLUSTER_FILE_MOST_NODES),                             \
        MAPPING(yaml_file, kv, kv_fields), MAPPING(yaml_file, ssh, ssh_fields),                    \
        MAPPING(yaml_file, network, network_fields),                                               \
        MAPPING(yaml_file, programs, programs_fields),                                             \
        MAPPING(yaml_file, weights, weights_fields),                                               \
        CYAML_FIELD_SEQUENCE("environment", MAYBE, struct yaml_file, environment, &variable_value, \
                             0, CLUSTER_FILE_MOST_VARIABLES),                                      \
        CYAML_FIELD_SEQUENCE("hosts", MAYBE, struct yaml_file, hosts, &hardware_value, 0,          \
                             CLUSTER_FILE_MOST_RANKS),                                             \
        CYAML_FIELD_END

static const cyaml_schema_field_t numbers_fields[] = {
    FILE_FIELDS(MAPPING(yaml_file, parallel, parallel_fields))};
static const cyaml_schema_field_t word_fields[] = {FILE_FIELDS(CYAML_FIELD_STRING_PTR(
    "parallel", CYAML_FLAG_POINTER, struct yaml_file, parallel_word, 1, MOST_TEXT))};
static const cyaml_schema_value_t numbers_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct yaml_file, numbers_fields)};
static const cyaml_schema_value_t word_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct yaml_file, word_fields)};

static const char *const known_keys[] = {
    "name",        "coordinator", "security",   "workers",     "parallel",    "attention_nodes",
    "kv",          "host",        "listen",     "cluster_key", "slots",       "device",
    "kernels",     "threads",     "pipeline",   "tensor",      "memory",      "weight",
    "bind",        "advertise",   "type",       "stripe",      "ssh",         "user",
    "port",        "key",         "config",     "network",     "interface",   "programs",
    "bin",         "mpi",         "weights",    "push",        "dir",         "environment",
    "hosts",       "devices",     "processors", "read_GB_s",   "f32_GFLOP_s", "int8_Gop_s",
    "link_Gbit_s", "rtt_us",      NULL,
};

/* libcyaml tells what is wrong first, then where: innermost place first. */
struct complaint {
    char what[MESSAGE_BYTES];
    uint32_t line;
};

static void hear(cyaml_log_t level, void *context, const char *format, va_list arguments)
{
    (void)level;
    struct complaint *complaint = context;
    char text[MESSAGE_BYTES];
    vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\n")] = '\0';
    const char prefix[] = "Load: ", *what = text;
    if (strncmp(text, prefix, sizeof(prefix) - 1) == 0)
        what += sizeof(prefix) - 1;
    const char *line = strstr(text, "(line: ");
    if (line != NULL && complaint->line == 0)
        complaint->line = (uint32_t)strtoul(line + strlen("(line: "), NULL, 10);
    else if (complaint->what[0] == '\0')
        snprintf(complaint->what, sizeof(complaint->what), "%s", what);
}

static struct yaml_file *load(const char *text, size_t size, const cyaml_schema_value_t *schema,
                              struct complaint *complaint)
{
    const cyaml_config_t config = {
        .log_fn = hear,
        .log_ctx = complaint,
        .mem_fn = cyaml_mem,
        .log_level = CYAML_LOG_ERROR,
        .flags = CYAML_CFG_NO_ALIAS,
    };
    struct yaml_file *document = NULL;
    *complaint = (struct complaint){0};
    const cyaml_err_t result = cyaml_load_data((const uint8_t *)text, size, &config, schema,
                                               (cyaml_data_t **)&document, NULL);
    if (result == CYAML_OK && document == NULL)
        snprintf(complaint->what, sizeof(complaint->what), "the file is empty");
    else if (result != CYAML_OK && complaint->what[0] == '\0')
        snprintf(complaint->what, sizeof(complaint->what), "%s", cyaml_strerror(result));
    return document;
}

void cluster_yaml_free(struct yaml_file *document)
{
    const cyaml_config_t config = {.mem_fn = cyaml_mem};
    /* Both schemas own the same members: the one whose `parallel` is set frees it. */
    if (document != NULL)
        cyaml_free(&config, document->parallel_word != NULL ? &word_value : &numbers_value,
                   document, 0);
}

uint32_t cluster_yaml_find(struct cluster_yaml_place *place, const char *text, const char *key)
{
    const size_t length = strlen(key);
    uint32_t line = place->line;
    bool comment = false;
    for (size_t i = place->at; text[i] != '\0'; i++) {
        const bool begins = i == 0 || strchr(" \t\n{,-\"'", text[i - 1]) != NULL;
        comment = text[i] != '\n' && (comment || (text[i] == '#' && begins));
        if (begins && !comment && strncmp(text + i, key, length) == 0 &&
            text[i + length + strspn(text + i + length, "\"' ")] == ':') {
            *place = (struct cluster_yaml_place){.at = i + length, .line = line};
            return line + 1;
        }
        line += text[i] == '\n';
    }
    return 0;
}

/* libcyaml tells the line of the mapping when it met an unknown key, which may be lines below. */
static uint32_t line_of_key(const char *text, uint32_t from, const char *key)
{
    struct cluster_yaml_place place = {0};
    if (key[0] == '\0') /* it would be found everywhere, for ever */
        return from;
    for (uint32_t line; (line = cluster_yaml_find(&place, text, key)) != 0;)
        if (line >= from)
            return line;
    return from;
}

/* Where the text stops being YAML, which libcyaml does not tell: it names the line of the mapping
 * around. 0: libyaml does not know it either. */
static uint32_t line_of_syntax_error(const char *text)
{
    yaml_parser_t parser;
    if (yaml_parser_initialize(&parser) == 0)
        return 0;
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, strlen(text));
    bool good = true, ended = false;
    while (good && !ended) {
        yaml_event_t event;
        good = yaml_parser_parse(&parser, &event) != 0;
        ended = good && event.type == YAML_STREAM_END_EVENT;
        if (good)
            yaml_event_delete(&event);
    }
    const bool known = parser.error == YAML_SCANNER_ERROR || parser.error == YAML_PARSER_ERROR;
    const uint32_t line = known ? (uint32_t)parser.problem_mark.line + 1 : 0;
    yaml_parser_delete(&parser);
    return line;
}

/* Editors put tabs where YAML wants spaces, and libyaml says "character" of them. */
static bool begins_with_tab(const char *text, uint32_t line)
{
    for (uint32_t i = 1; i < line; i++) {
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    return text[strspn(text, " ")] == '\t';
}

/* What libcyaml says in the words of its own code, as the writer of the file would say it. */
static void say_plainly(char what[MESSAGE_BYTES])
{
    static const struct {
        const char *theirs, *ours; /* %.*s: what is behind theirs, without quotes */
    } phrases[] = {
        {"Expecting MAPPING", "keys with values belong here, such as host: NAME"},
        {"Expecting SEQUENCE", "a list belongs here: [A, B], or lines that begin with -"},
        {"Expecting ", "one value belongs here"},
        {"Insufficient entries", "the list needs one entry at least"},
        {"Missing required mapping field: ", "the key '%.*s' is missing"},
        {"Mapping field already seen: ", "the key '%.*s' is there twice"},
        {"Invalid FLOAT value: ", "'%.*s' is no number"},
        {"Invalid uint64_t value: ", "'%.*s' is no whole number"},
        {"Invalid UINT value: ", "'%.*s' is no whole number from 0 on"},
    };
    for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++) {
        const size_t length = strlen(phrases[i].theirs);
        if (strncmp(what, phrases[i].theirs, length) != 0)
            continue;
        char rest[MESSAGE_BYTES];
        snprintf(rest, sizeof(rest), "%s", what + length + (what[length] == '\''));
        const size_t n = strlen(rest);
        snprintf(what, MESSAGE_BYTES, phrases[i].ours, (int)(n - (n > 0 && rest[n - 1] == '\'')),
                 rest);
        return;
    }
}

static enum status refuse(const char *path, const char *text, const struct complaint *complaint,
                          struct error *error)
{
    char where[WHERE_BYTES] = "";
    const char unexpected[] = "Unexpected key: ", syntax[] = "libyaml: ", *nearest = NULL;
    const char *what = complaint->what;
    uint32_t line = complaint->line;
    bool tab = false;
    if (strncmp(what, unexpected, sizeof(unexpected) - 1) == 0) {
        const char *key = what + sizeof(unexpected) - 1;
        nearest = options_nearest(known_keys, key);
        line = line_of_key(text, line, key);
    } else if (strncmp(what, syntax, sizeof(syntax) - 1) == 0) {
        const uint32_t exact = line_of_syntax_error(text);
        what += sizeof(syntax) - 1;
        line = exact != 0 ? exact : line;
        tab = begins_with_tab(text, line);
    }
    char plain[MESSAGE_BYTES];
    snprintf(plain, sizeof(plain), "%s", what);
    say_plainly(plain);
    if (line != 0)
        snprintf(where, sizeof(where), ":%u", line);
    if (nearest != NULL)
        return error_set(error, STATUS_INVALID, "%s%s: %s (did you mean '%s'?)", path, where, what,
                         nearest);
    return error_set(error, STATUS_INVALID, "%s%s: %s%s", path, where, plain,
                     tab ? " (a tab: YAML is indented by spaces)" : "");
}

enum status cluster_yaml_read(struct yaml_file **document, const char *path, char **text,
                              struct error *error)
{
    size_t size;
    enum status status = file_read(path, MOST_FILE_BYTES, text, &size, error);
    if (status != STATUS_OK)
        return status;
    struct complaint numbers, word;
    *document = load(*text, size, &numbers_value, &numbers);
    if (*document == NULL && (*document = load(*text, size, &word_value, &word)) == NULL)
        status = refuse(path, *text, word.line > numbers.line ? &word : &numbers, error);
    return status;
}
