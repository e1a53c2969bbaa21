/* server_options.c - see server_options.h. */
#include "proto/server_options.h"

#include <stdlib.h>

const struct option server_options[SERVER_OPTIONS] = {
    [SERVER_OPTION_API_KEY_FILE] = {.name = "api-key-file",
                                    .kind = OPTION_TEXT,
                                    .argument = "FILE",
                                    .help = "admit only clients that send one of these keys, one "
                                            "per line; without it, that of the environment "
                                            "(" SERVER_OPTIONS_API_KEY "), if there is one"},
    [SERVER_OPTION_MODEL_NAME] = {.name = "model-name",
                                  .kind = OPTION_TEXT,
                                  .argument = "NAME",
                                  .help = "what clients call the model; without it, the file's "
                                          "name"},
    [SERVER_OPTION_CHAT_TEMPLATE] = {.name = "chat-template",
                                     .kind = OPTION_TEXT,
                                     .argument = "NAME|FILE",
                                     .help = "instead of the one in the model file"},
    [SERVER_OPTION_CORS] = {.name = "cors",
                            .kind = OPTION_TEXT,
                            .argument = "ORIGIN",
                            .help = "pages from there may use the API: https://host, or * for all"},
    [SERVER_OPTION_BODY] = {.name = "http-body",
                            .kind = OPTION_BYTES,
                            .argument = "SIZE",
                            .fallback = "64MiB",
                            .least = 1024,
                            .most = 1u << 30,
                            .help = "largest body of a request"},
    [SERVER_OPTION_BODIES] = {.name = "http-bodies",
                              .kind = OPTION_BYTES,
                              .argument = "SIZE",
                              .fallback = "512MiB",
                              .least = 1024,
                              .most = 1ull << 40,
                              .help = "what all requests that are being sent and read may have "
                                      "together; the next one gets 503"},
    [SERVER_OPTION_PROMPT] = {.name = "http-prompt",
                              .kind = OPTION_U32,
                              .argument = "N",
                              .fallback = "0",
                              .most = 1u << 30,
                              .help = "most tokens of one prompt; 0: as many as the context has"},
    [SERVER_OPTION_REQUESTS] = {.name = "http-requests",
                                .kind = OPTION_U32,
                                .argument = "N",
                                .fallback = "128",
                                .least = 1,
                                .most = 256,
                                .help = "most requests that the scheduler has at once"},
    [SERVER_OPTION_QUEUE] = {.name = "http-queue",
                             .kind = OPTION_U32,
                             .argument = "N",
                             .fallback = "256",
                             .most = 100000,
                             .help = "most requests that wait for the scheduler; the next one gets "
                                     "429"},
    [SERVER_OPTION_IDLE] = {.name = "http-idle",
                            .kind = OPTION_U32,
                            .argument = "S",
                            .fallback = "60",
                            .least = 1,
                            .most = 86400,
                            .help = "seconds until a connection on which nothing moves is closed"},
    [SERVER_OPTION_READ] = {.name = "http-read",
                            .kind = OPTION_U32,
                            .argument = "S",
                            .fallback = "300",
                            .least = 1,
                            .most = 86400,
                            .help = "seconds within which a request must have arrived whole"},
    [SERVER_OPTION_SILENCE] = {.name = "http-silence",
                               .kind = OPTION_U32,
                               .argument = "S",
                               .fallback = "15",
                               .most = 86400,
                               .help = "seconds of silence after which a stream gets a comment, so "
                                       "that no proxy cuts it; 0: never"},
    [SERVER_OPTION_DRAIN] = {.name = "http-drain",
                             .kind = OPTION_U32,
                             .argument = "S",
                             .fallback = "600",
                             .most = 86400,
                             .help = "seconds that running requests have after SIGTERM; a second "
                                     "one ends them at once"},
};

const char *server_options_api_key(void)
{
    const char *key = getenv(SERVER_OPTIONS_API_KEY);
    return key != NULL && key[0] != '\0' ? key : NULL;
}
