/* coordinator/texts.h - prompts that come as long texts (`longspan run -f FILE`), tokenized by a
 * thread of its own, so that no token of others waits for them.
 *
 * A request is kept until its texts are ids, in order of coming, and taken then as if its client had
 * sent these. All functions are for the thread that serves. */
#ifndef LONGSPAN_COORDINATOR_TEXTS_H
#define LONGSPAN_COORDINATOR_TEXTS_H

#include "coordinator/control.h"
#include "model/tokenizer.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    TEXTS_LEAST_BYTES = 16384, /* of a request; shorter ones are tokenized at once */
    TEXTS_MOST_REQUESTS = 64,
    TEXTS_MOST_BYTES = 256 << 20, /* of all requests; one is kept whatever it has */
};

struct texts; /* opaque */

struct texts_request {
    struct frames_peer client;
    uint64_t number;
    Longspan__Control
        *message; /* a RunRequest of ids, the taker's to free; NULL: `error` says why */
    struct error error;
};

/* The tokenizer is borrowed. STATUS_NO_MEMORY: or no thread, or no descriptor. */
enum status texts_create(struct texts **texts, const struct tokenizer *tokenizer,
                         struct error *error);
/* Waits for the word that is being tokenized. NULL is fine. */
void texts_destroy(struct texts *texts);

/* Should it be kept? */
bool texts_are_long(const Longspan__RunRequest *message);

/* Copies the message. STATUS_EXHAUSTED: TEXTS_MOST_REQUESTS are kept, or it would be
 * more than TEXTS_MOST_BYTES with them. STATUS_NO_MEMORY. */
enum status texts_add(struct texts *texts, const struct frames_peer *client,
                      const Longspan__RunRequest *message, uint64_t now_us, struct error *error);

/* The oldest that is tokenized, or could not be. False: none. */
bool texts_take(struct texts *texts, struct texts_request *request);

/* Can be read when one may be taken; texts_take settles it. */
int texts_descriptor(const struct texts *texts);

void texts_heard(struct texts *texts, const struct frames_peer *client, uint64_t now_us);

/* Drops the request `number` of a client; or all of its requests. */
void texts_drop(struct texts *texts, const struct frames_peer *client, bool all, uint64_t number);

/* Drops one whose client was not heard of since `since_us`, and says whose it was. False: there is
 * none. */
bool texts_drop_silent(struct texts *texts, uint64_t since_us, struct frames_peer *client,
                       uint64_t *number);

/* Drops any one, and says whose it was. False: there is none. */
bool texts_drop_one(struct texts *texts, struct frames_peer *client, uint64_t *number);

#endif
