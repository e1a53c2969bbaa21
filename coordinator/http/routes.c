/* routes.c - see routes.h. */
#include "coordinator/http/routes.h"

#include <string.h>

static const struct route routes[] = {
    {"GET", "/health", ROUTE_OPEN | ROUTE_QUIET, handle_health},
    {"GET", "/v1/models", 0, handle_models},
    {"GET", "/v1/models/", ROUTE_BELOW, handle_model},
    {"POST", "/v1/completions", ROUTE_WORK, handle_completions},
    {"POST", "/v1/chat/completions", ROUTE_WORK, handle_chat_completions},
    {"POST", "/tokenize", 0, handle_tokenize},
    {"POST", "/detokenize", 0, handle_detokenize},
    {"GET", "/cluster", ROUTE_QUIET, handle_cluster},
    {"GET", "/metrics", ROUTE_QUIET, handle_metrics},
    {"GET", "/", ROUTE_OPEN | ROUTE_QUIET, handle_page},
    {"GET", "/page/style.css", ROUTE_OPEN | ROUTE_QUIET, handle_page},
    {"GET", "/page/icon.svg", ROUTE_OPEN | ROUTE_QUIET, handle_page},
    {"GET", "/page/main.js", ROUTE_OPEN | ROUTE_QUIET, handle_page},
    {"GET", "/page/charts.js", ROUTE_OPEN | ROUTE_QUIET, handle_page},
    {"GET", "/page/chat.js", ROUTE_OPEN | ROUTE_QUIET, handle_page},
    {"GET", "/page/format.js", ROUTE_OPEN | ROUTE_QUIET, handle_page},
    {"GET", "/page/picture.js", ROUTE_OPEN | ROUTE_QUIET, handle_page},
    {"GET", "/page/prompts.js", ROUTE_OPEN | ROUTE_QUIET, handle_page},
    {"GET", "/page/server.js", ROUTE_OPEN | ROUTE_QUIET, handle_page},
};

enum { N_ROUTES = sizeof(routes) / sizeof(routes[0]) };

static bool leads_to(const struct route *route, const char *path)
{
    const size_t n = strlen(route->path);
    return (route->flags & ROUTE_BELOW) != 0 ? strncmp(path, route->path, n) == 0 && path[n] != '\0'
                                             : strcmp(path, route->path) == 0;
}

const struct route *routes_find(const char *method, const char *path, const char **allow)
{
    *allow = NULL;
    if (strcmp(method, "HEAD") == 0)
        method = "GET";
    for (uint32_t i = 0; i < N_ROUTES; i++)
        if (leads_to(&routes[i], path)) {
            if (strcmp(method, routes[i].method) == 0)
                return &routes[i];
            *allow = routes[i].method;
        }
    return NULL;
}

uint32_t routes_place(const struct route *route)
{
    return (uint32_t)(route - routes);
}

const struct route *routes_at(uint32_t place)
{
    return place < N_ROUTES ? &routes[place] : NULL;
}
