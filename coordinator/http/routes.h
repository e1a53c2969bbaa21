/* coordinator/http/routes.h - which path is answered by whom.
 *
 * A handler gets a call whose body is whole, whose key was good, and answers it (call.h). Another
 * page of the server is another line of the table in routes.c, and a file with its handler. */
#ifndef LONGSPAN_COORDINATOR_HTTP_ROUTES_H
#define LONGSPAN_COORDINATOR_HTTP_ROUTES_H

#include "coordinator/http/call.h"

enum route_flags {
    ROUTE_OPEN = 1 << 0,  /* needs no API key */
    ROUTE_QUIET = 1 << 1, /* asked often by machines: in the log only with -v */
    ROUTE_WORK = 1 << 2,  /* needs a cluster that is ready: 503 while it loads or drains */
    ROUTE_BELOW = 1 << 3, /* `path` ends with a slash, and stands for all that is behind it */
};

struct route {
    const char *method, *path; /* GET also answers HEAD */
    unsigned flags;
    enum MHD_Result (*handle)(struct call *call);
};

/* NULL: none. *allow is then what the path would take ("GET", ...), or NULL: there is no such path.
 */
const struct route *routes_find(const char *method, const char *path, const char **allow);

/* Every route has a place, from 0. NULL: there is none at that place, nor at any later one. */
uint32_t routes_place(const struct route *route);
const struct route *routes_at(uint32_t place);

/* ---- the handlers */

enum MHD_Result handle_health(struct call *call);
enum MHD_Result handle_models(struct call *call);
enum MHD_Result handle_model(struct call *call);
enum MHD_Result handle_completions(struct call *call);
enum MHD_Result handle_chat_completions(struct call *call);
enum MHD_Result handle_tokenize(struct call *call);
enum MHD_Result handle_detokenize(struct call *call);
enum MHD_Result handle_cluster(struct call *call);
enum MHD_Result handle_metrics(struct call *call);
enum MHD_Result handle_page(struct call *call);

#endif
