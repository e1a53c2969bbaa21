/* kernels.c - the tables that were compiled in, and the choice among them. */
#include "kernels/kernels.h"

#include "sys/parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct kernels *const kernels_all[] = {
    &kernels_cpu_scalar,
#if defined(__x86_64__)
    &kernels_cpu_avx2,
    &kernels_cpu_avx512,
#elif defined(__aarch64__)
    &kernels_cpu_neon,
    &kernels_cpu_dotprod,
#endif
    NULL,
};

const struct kernels *const kernels_rounding[] = {
#if defined(__x86_64__)
    &kernels_cpu_bf16,
#endif
    NULL,
};

const char *const kernels_names[] = {"auto",    "scalar", "avx2",      "avx512", "neon",
                                     "dotprod", "bf16",   "cuda-blas", NULL};

static bool is_auto(const char *name)
{
    return name == NULL || name[0] == '\0' || strcmp(name, "auto") == 0;
}

/* "auto, scalar, avx2": what may be asked for here. */
static void list_usable(char *text, size_t size)
{
    const struct kernels *const *const lists[] = {kernels_all, kernels_rounding};
    size_t used = (size_t)snprintf(text, size, "auto");
    for (size_t list = 0; list < 2; list++)
        for (size_t i = 0; lists[list][i] != NULL && used < size; i++)
            if (lists[list][i]->usable())
                used += (size_t)snprintf(text + used, size - used, ", %s", lists[list][i]->name);
}

/* Also of tables that this machine's build has not. */
bool kernels_same_bits(const char *name)
{
    static const char *const names[] = {"scalar", "avx2", "avx512", "neon", "dotprod", "bf16"};
    for (size_t i = 0; name != NULL && i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

const char *kernels_without_rounding(const char *name)
{
    if (name != NULL && strcmp(name, "bf16") == 0)
        return "avx512";
    if (name != NULL && strcmp(name, kernels_cuda_blas.name) == 0)
        return kernels_cuda.name;
    return name;
}

bool kernels_round_products(const char *name)
{
    return kernels_without_rounding(name) != name;
}

enum status kernels_choose(const struct kernels **kernels, const char *name, struct error *error)
{
    const char *from = "";
    if (is_auto(name)) {
        name = getenv("LONGSPAN_KERNELS");
        from = "LONGSPAN_KERNELS=";
    }

    const struct kernels *chosen = NULL;
    bool known = is_auto(name);
    for (size_t i = 0; kernels_all[i] != NULL; i++) { /* slowest first: the last one stays */
        const bool named = !is_auto(name) && strcmp(kernels_all[i]->name, name) == 0;
        known = known || named;
        if ((named || is_auto(name)) && kernels_all[i]->usable())
            chosen = kernels_all[i];
    }
    for (size_t i = 0; kernels_rounding[i] != NULL; i++)
        if (!is_auto(name) && strcmp(kernels_rounding[i]->name, name) == 0) {
            known = true;
            chosen = kernels_rounding[i]->usable() ? kernels_rounding[i] : NULL;
        }
    if (chosen != NULL) {
        *kernels = chosen;
        return STATUS_OK;
    }
    char usable[64] = "";
    list_usable(usable, sizeof(usable));
    if (known)
        return error_set(error, STATUS_UNSUPPORTED,
                         "kernels: this processor cannot run %s%s; it can run %s", from, name,
                         usable);
    return error_set(error, STATUS_NOT_FOUND, "kernels: no %s%s in this build; there are %s", from,
                     name, usable);
}

/* ---- devices --------------------------------------------------------------------------------- */

enum { MOST_DEVICES = 1024 };

/* "cuda", "cuda:1". A number that is none, or too large for any machine, is no device's name. */
static bool parse_device(const char *device, const char *kind, bool *numbered, uint32_t *number)
{
    const size_t length = strlen(kind);
    *numbered = false;
    if (strncmp(device, kind, length) != 0)
        return false;
    if (device[length] == '\0')
        return true;
    *numbered = true;
    return device[length] == ':' &&
           parse_u32(kind, device + length + 1, 0, MOST_DEVICES - 1, number, NULL) == STATUS_OK;
}

bool kernels_device_is_cpu(const char *device)
{
    return device == NULL || device[0] == '\0' || strcmp(device, kernels_cpu_scalar.device) == 0;
}

bool kernels_device_is_name(const char *device)
{
    bool numbered;
    uint32_t number;
    return kernels_device_is_cpu(device) ||
           parse_device(device, kernels_cuda.device, &numbered, &number);
}

bool kernels_suit_device(const char *name, const char *device)
{
    const bool of_gpus = !is_auto(name) && (strcmp(name, kernels_cuda.name) == 0 ||
                                            strcmp(name, kernels_cuda_blas.name) == 0);
    return is_auto(name) || of_gpus != kernels_device_is_cpu(device);
}

enum status kernels_choose_device(const struct kernels **kernels, const char *device,
                                  const char *name, struct error *error)
{
    const struct kernels *cuda = &kernels_cuda;
    struct error why = {.status = STATUS_OK};
    bool numbered;
    uint32_t number;
    if (kernels_device_is_cpu(device))
        return kernels_choose(kernels, name, error);
    if (!parse_device(device, cuda->device, &numbered, &number))
        return error_set(error, STATUS_NOT_FOUND, "device %s: there are cpu, cuda and cuda:N",
                         device);
    if (!is_auto(name) && strcmp(name, kernels_cuda_blas.name) == 0)
        cuda = &kernels_cuda_blas;
    else if (!is_auto(name) && strcmp(name, cuda->name) != 0)
        return error_set(error, STATUS_NOT_FOUND, "kernels: %s has none named %s; it has %s, %s",
                         device, name, cuda->name, kernels_cuda_blas.name);
    if (cuda->count(&why) == 0)
        return error_set(error, STATUS_UNSUPPORTED, "device %s: %s", device, why.text);
    *kernels = cuda;
    return STATUS_OK;
}

enum status kernels_device_index(uint32_t *index, const struct kernels *kernels, const char *device,
                                 uint32_t turn, struct error *error)
{
    struct error why = {.status = STATUS_OK};
    bool numbered = false;
    uint32_t number = 0;
    const uint32_t count = kernels->count(&why);
    if (count == 0)
        return error_set(error, STATUS_UNSUPPORTED, "device %s: %s", kernels->device, why.text);
    if (!kernels_device_is_cpu(device) &&
        !parse_device(device, kernels->device, &numbered, &number))
        return error_set(error, STATUS_NOT_FOUND, "device %s is not one of %s's", device,
                         kernels->device);
    if (numbered && number >= count)
        return error_set(error, STATUS_NOT_FOUND,
                         "device %s: this process can use %u, from %s:0 on", device, count,
                         kernels->device);
    *index = numbered ? number : turn % count;
    return STATUS_OK;
}

void kernels_device_name(char *text, size_t size, const struct kernels *kernels, uint32_t index)
{
    if (kernels_device_is_cpu(kernels->device))
        snprintf(text, size, "%s", kernels->device);
    else
        snprintf(text, size, "%s:%u", kernels->device, index);
}
