/* proto/server_options.h - the options of the HTTP server: `coordinator` reads them, `longspan
 * serve` has the same and passes them on.
 *
 * Entries for tables of sys/options.h. They have no `value` yet: whoever copies one says where it
 * goes. */
#ifndef LONGSPAN_PROTO_SERVER_OPTIONS_H
#define LONGSPAN_PROTO_SERVER_OPTIONS_H

#include "sys/options.h"

enum server_option {
    SERVER_OPTION_API_KEY_FILE,
    SERVER_OPTION_MODEL_NAME,
    SERVER_OPTION_CHAT_TEMPLATE,
    SERVER_OPTION_CORS,
    SERVER_OPTION_BODY,
    SERVER_OPTION_BODIES,
    SERVER_OPTION_PROMPT,
    SERVER_OPTION_REQUESTS,
    SERVER_OPTION_QUEUE,
    SERVER_OPTION_IDLE,
    SERVER_OPTION_READ,
    SERVER_OPTION_SILENCE,
    SERVER_OPTION_DRAIN,
    SERVER_OPTIONS /* how many there are */
};

extern const struct option server_options[SERVER_OPTIONS];

/* The key of the environment, LONGSPAN_API_KEY: where there is no --api-key-file, a server admits it
 * and a client sends it. NULL: there is none, or it is empty. */
#define SERVER_OPTIONS_API_KEY "LONGSPAN_API_KEY"
const char *server_options_api_key(void);

#endif
