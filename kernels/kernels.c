/* kernels.c - the tables that were compiled in, and the choice among them. */
#include "kernels/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct kernels *const kernels_all[] = {
    &kernels_cpu_scalar,
#if defined(__x86_64__)
    &kernels_cpu_avx2,
    &kernels_cpu_avx512,
#endif
    NULL,
};

const struct kernels *const kernels_rounding[] = {
#if defined(__x86_64__)
    &kernels_cpu_bf16,
#endif
    NULL,
};

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

bool kernels_round_products(const char *name)
{
    return name != NULL && strcmp(name, "bf16") == 0;
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
