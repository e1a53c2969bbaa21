/* errand.c - see errand.h. */
#include "coordinator/http/errand.h"

#include <stdlib.h>

void errand_open(struct errand *errand, const struct errand_kind *kind, uint64_t number,
                 int descriptor)
{
    errand->kind = kind;
    errand->number = number;
    errand->descriptor = descriptor;
    atomic_init(&errand->stop, false);
    atomic_init(&errand->n_users, 1);
}

void errand_release(struct errand *errand)
{
    if (errand != NULL && atomic_fetch_sub(&errand->n_users, 1) == 1) {
        free(errand->message);
        errand->kind->destroy(errand);
    }
}
