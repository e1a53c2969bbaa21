/* tally.c - see tally.h. */
#include "coordinator/http/tally.h"

#include "coordinator/http/routes.h"

#include <assert.h>
#include <stdbool.h>

enum { NO_ROUTE = TALLY_PLACES - 1 };

void tally_answer(struct tally *tally, const struct route *route, unsigned code)
{
    const uint32_t place = route != NULL ? routes_place(route) : NO_ROUTE;
    atomic_fetch_add(&tally->answers[place][code < TALLY_CODES ? code : 0], 1);
}

static void walk_place(const struct tally *tally, uint32_t place, const char *path, bool works,
                       void (*each)(const char *path, unsigned code, uint64_t n, void *context),
                       void *context)
{
    for (unsigned code = 0; code < TALLY_CODES; code++) {
        const uint64_t n = atomic_load(&tally->answers[place][code]);
        if (n > 0 || (works && (code == 200 || code == 429)))
            each(path, code, n, context);
    }
}

void tally_walk(const struct tally *tally,
                void (*each)(const char *path, unsigned code, uint64_t n, void *context),
                void *context)
{
    const struct route *route;
    for (uint32_t i = 0; (route = routes_at(i)) != NULL; i++) {
        assert(i < NO_ROUTE);
        walk_place(tally, i, route->path, (route->flags & ROUTE_WORK) != 0, each, context);
    }
    walk_place(tally, NO_ROUTE, "other", false, each, context);
}
