/* plan_probe.c - bench_probe.h measures; here it is asked for every device of every host. */
#include "cluster/plan_probe.h"

#include "cluster/agents.h"
#include "cluster/bench_probe.h"
#include "cluster/reach.h"
#include "kernels/kernels.h"
#include "proto/address.h"
#include "sys/clock.h"
#include "sys/memory.h"
#include "sys/samples.h"
#include "sys/topology.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_ROUND_TRIPS = 9 };

static const char probed[] = "probed";

/* ---- this machine ---------------------------------------------------------------------------- */

static json_t *known(double value)
{
    return json_real(isfinite(value) ? value : 0);
}

static enum status probe_device(json_t **to, const char *device, struct error *error)
{
    struct bench_probe probe = {0};
    const struct place_options place = {.device = device};
    uint64_t memory = memory_available_bytes();
    const enum status status = bench_probe_open(&probe, &place, topology_processors(), error);
    if (status == STATUS_OK) {
        bench_probe_read(&probe);
        if (probe.device != NULL)
            memory = probe.kernels->memory_available(probe.device);
        *to = json_pack("{s:I, s:I, s:o, s:o, s:o}", "memory", (json_int_t)memory, "processors",
                        (json_int_t)topology_processors(), "read",
                        known(probe.machine.read_bytes_per_s), "f32",
                        known(probe.machine.f32_per_s), "int8", known(probe.machine.int8_per_s));
    }
    bench_probe_close(&probe);
    return status;
}

enum status plan_probe_devices(json_t **measured, const json_t *devices, struct error *error)
{
    json_t *list = json_array();
    const json_t *name;
    size_t i;
    enum status status = json_is_array(devices)
                             ? STATUS_OK
                             : error_set(error, STATUS_INVALID, "measure: no list of devices");
    json_array_foreach(devices, i, name)
    {
        json_t *one = NULL;
        if (status == STATUS_OK &&
            (!json_is_string(name) || !kernels_device_is_name(json_string_value(name))))
            status = error_set(error, STATUS_INVALID, "measure: that is no device");
        if (status == STATUS_OK)
            status = probe_device(&one, json_string_value(name), error);
        if (status == STATUS_OK && json_array_append_new(list, one) != 0)
            status = error_set(error, STATUS_NO_MEMORY, "no memory for what was measured");
    }
    if (status == STATUS_OK)
        *measured = list;
    else
        json_decref(list);
    return status;
}

/* ---- all machines ---------------------------------------------------------------------------- */

/* Whether there is something that is not known, and that would be measured. */
static bool is_of_interest(const struct plan_device *device)
{
    const bool cpu = kernels_device_is_cpu(device->name);
    return device->memory_bytes == 0 || device->read_bytes_per_s <= 0 ||
           (cpu && (device->processors == 0 || device->f32_per_s <= 0 || device->int8_per_s <= 0));
}

/* Names of the host's devices that are of interest, in the order of facts. */
static json_t *devices_of(const struct plan_facts *facts, uint32_t host)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < facts->n_devices; i++)
        if (facts->devices[i].host == host && is_of_interest(&facts->devices[i]))
            json_array_append_new(list, json_string(facts->devices[i].name));
    return list;
}

/* A number that another machine told; what is none, is not known. */
static double told(const json_t *measured, const char *key)
{
    const double value = json_number_value(json_object_get(measured, key));
    return value > 0 && value < 1e18 ? value : 0;
}

/* Whether it was not known and is now. */
static bool take_rate(double *rate, const json_t *measured, const char *key)
{
    const bool takes = *rate <= 0 && told(measured, key) > 0;
    if (takes)
        *rate = told(measured, key);
    return takes;
}

/* Returns whether something was taken. */
static bool take_device(struct plan_device *device, const json_t *measured)
{
    const double memory = told(measured, "memory"), processors = told(measured, "processors");
    const bool file_told = device->rate_source != NULL;
    bool some = take_rate(&device->read_bytes_per_s, measured, "read");
    some = take_rate(&device->f32_per_s, measured, "f32") || some;
    some = take_rate(&device->int8_per_s, measured, "int8") || some;
    if (some)
        device->rate_source = file_told ? "cluster file, probed" : probed;
    if (device->memory_bytes == 0 && memory > 0) {
        device->memory_bytes = (uint64_t)memory;
        device->memory_source = probed;
        some = true;
    }
    if (device->processors == 0 && processors <= CLUSTER_FILE_MOST_PROCESSORS)
        device->processors = (uint32_t)processors;
    return some;
}

static void take_devices(struct plan_facts *facts, uint32_t host, const json_t *list)
{
    size_t at = 0;
    for (uint32_t i = 0; i < facts->n_devices; i++)
        if (facts->devices[i].host == host && is_of_interest(&facts->devices[i]))
            facts->measured =
                take_device(&facts->devices[i], json_array_get(list, at++)) || facts->measured;
}

/* Of connections to there: one round trip each. */
static enum status measure_round_trip(double *seconds, const char *host, uint16_t port,
                                      struct error *error)
{
    double all[N_ROUND_TRIPS];
    for (uint32_t i = 0; i < N_ROUND_TRIPS; i++) {
        const uint64_t began_us = clock_us();
        const enum status status = reach_connect(host, port, error);
        if (status != STATUS_OK)
            return status;
        all[i] = (double)(clock_us() - began_us) * 1e-6;
    }
    *seconds = samples_of(all, N_ROUND_TRIPS).median;
    return STATUS_OK;
}

/* This machine is as near to the others as they are to it. */
static void take_round_trips(struct plan_facts *facts)
{
    double least = 0;
    for (uint32_t i = 0; i < facts->n_hosts; i++)
        if (facts->hosts[i].round_trip_s > 0 &&
            (least <= 0 || facts->hosts[i].round_trip_s < least))
            least = facts->hosts[i].round_trip_s;
    for (uint32_t i = 0; i < facts->n_hosts; i++)
        if (facts->hosts[i].here && facts->hosts[i].round_trip_s <= 0)
            facts->hosts[i].round_trip_s = least;
}

struct asking {
    struct plan_facts *facts;
    const struct layout *layout;
    struct agents *agents;
    struct agents_question *questions; /* one for each host of the layout */
};

static struct plan_host *host_of(const struct asking *a, uint32_t index)
{
    for (uint32_t i = 0; i < a->facts->n_hosts; i++)
        if (a->facts->hosts[i].remote == &a->layout->hosts[index])
            return &a->facts->hosts[i];
    return NULL;
}

static void forget_answers(struct asking *a)
{
    for (uint32_t i = 0; i < a->layout->n_hosts; i++) {
        json_decref(a->questions[i].answer);
        a->questions[i] = (struct agents_question){0};
    }
}

static enum status ask_devices(struct asking *a, struct error *error)
{
    for (uint32_t i = 0; i < a->layout->n_hosts; i++)
        if (host_of(a, i) != NULL)
            a->questions[i].request =
                json_pack("{s:s, s:o}", "do", "measure", "devices",
                          devices_of(a->facts, (uint32_t)(host_of(a, i) - a->facts->hosts)));
    const enum status status = agents_ask(a->agents, a->questions, NULL, error);
    for (uint32_t i = 0; i < a->layout->n_hosts && status == STATUS_OK; i++)
        if (host_of(a, i) != NULL)
            take_devices(a->facts, (uint32_t)(host_of(a, i) - a->facts->hosts),
                         json_object_get(a->questions[i].answer, "devices"));
    forget_answers(a);
    return status;
}

static enum status ask_round_trips(struct asking *a, struct error *error)
{
    const char *interface = a->layout->interface != NULL ? a->layout->interface : "";
    for (uint32_t i = 0; i < a->layout->n_hosts; i++)
        a->questions[i].request = json_pack("{s:s, s:s}", "do", "listen", "interface", interface);
    enum status status = agents_ask(a->agents, a->questions, NULL, error);
    for (uint32_t i = 0; i < a->layout->n_hosts && status == STATUS_OK; i++) {
        struct plan_host *host = host_of(a, i);
        const char *address = json_string_value(json_object_get(a->questions[i].answer, "host"));
        const json_int_t port = json_integer_value(json_object_get(a->questions[i].answer, "port"));
        if (host == NULL || host->round_trip_s > 0)
            continue;
        if (address == NULL || port <= 0 || port > UINT16_MAX)
            status = error_set(error, STATUS_PROTOCOL, "%s: its agent told no address", host->name);
        else
            status = measure_round_trip(&host->round_trip_s, address, (uint16_t)port, error);
        host->link_source = host->link_source != NULL ? host->link_source : probed;
        a->facts->measured = true;
    }
    forget_answers(a);
    return status;
}

static enum status probe_others(struct plan_facts *facts, const struct layout *layout, bool quiet,
                                struct error *error)
{
    struct launch *launch = NULL;
    struct asking asking = {.facts = facts, .layout = layout};
    enum status status =
        launch_create(&launch, quiet ? LAUNCH_SHOW_NOTHING : LAUNCH_SHOW_WARNINGS, error);
    asking.questions = calloc(layout->n_hosts, sizeof(*asking.questions));
    if (status == STATUS_OK && asking.questions == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "no memory for %u hosts", layout->n_hosts);
    if (status == STATUS_OK)
        status = agents_open(&asking.agents, launch, layout, error);
    if (status == STATUS_OK)
        status = ask_devices(&asking, error);
    if (status == STATUS_OK)
        status = ask_round_trips(&asking, error);
    agents_close(asking.agents);
    free(asking.questions);
    launch_destroy(launch);
    return status;
}

enum status plan_probe(struct plan_facts *facts, const struct layout *layout, bool quiet,
                       struct error *error)
{
    enum status status =
        layout->n_hosts > 0 ? probe_others(facts, layout, quiet, error) : STATUS_OK;
    for (uint32_t i = 0; i < facts->n_hosts && status == STATUS_OK; i++) {
        json_t *measured = NULL, *devices = facts->hosts[i].here ? devices_of(facts, i) : NULL;
        if (devices != NULL && json_array_size(devices) > 0)
            status = plan_probe_devices(&measured, devices, error);
        if (measured != NULL)
            take_devices(facts, i, measured);
        json_decref(measured);
        json_decref(devices);
    }
    take_round_trips(facts);
    return status;
}
