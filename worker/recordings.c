/* recordings.c - a small cache of shapes; a shape that comes once, as most of those with prompts do,
 * costs nothing but its place. */
#include "worker/recordings.h"

#include <stdlib.h>

enum {
    SHAPES = 8,
    MOST_ROWS = 64, /* with more, a call takes the device longer than the host */
};

struct shape {
    uint32_t n_rows; /* 0: free */
    const float *stream;
    uint64_t used; /* when, in steps */
    bool failed;   /* something of it cannot be recorded */
    struct recording **pieces;
};

struct recordings {
    const struct kernels *kernels;
    struct device *device;
    uint32_t n_pieces;
    struct shape shapes[SHAPES];
    uint64_t n_steps, n_replayed;

    /* Of this step. */
    struct shape *shape; /* NULL: calls are made */
    const uint32_t *positions;
};

enum status recordings_create(struct recordings **recordings, const struct kernels *kernels,
                              struct device *device, uint32_t n_pieces, struct error *error)
{
    struct recordings *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return error_set(error, STATUS_NO_MEMORY, "recordings: no memory");
    r->kernels = kernels;
    r->device = device;
    r->n_pieces = n_pieces;
    for (int i = 0; i < SHAPES && kernels->record_begin != NULL; i++)
        if ((r->shapes[i].pieces = calloc(n_pieces, sizeof(*r->shapes[i].pieces))) == NULL) {
            recordings_destroy(r);
            return error_set(error, STATUS_NO_MEMORY, "recordings: no memory for %u pieces",
                             n_pieces);
        }
    *recordings = r;
    return STATUS_OK;
}

static void forget(struct recordings *r, struct shape *shape)
{
    for (uint32_t i = 0; i < r->n_pieces; i++) {
        r->kernels->recording_destroy(r->device, shape->pieces[i]);
        shape->pieces[i] = NULL;
    }
    shape->n_rows = 0;
    shape->failed = false;
}

void recordings_destroy(struct recordings *recordings)
{
    if (recordings == NULL)
        return;
    for (int i = 0; i < SHAPES; i++)
        if (recordings->shapes[i].pieces != NULL) {
            forget(recordings, &recordings->shapes[i]);
            free(recordings->shapes[i].pieces);
        }
    free(recordings);
}

uint64_t recordings_replayed(const struct recordings *recordings)
{
    return recordings->n_replayed;
}

/* The shape, or NULL where it comes for the first time; it then has a place. */
static struct shape *find(struct recordings *r, uint32_t n_rows, const float *stream)
{
    struct shape *oldest = &r->shapes[0];
    for (int i = 0; i < SHAPES; i++) {
        struct shape *shape = &r->shapes[i];
        if (shape->n_rows == n_rows && shape->stream == stream) {
            shape->used = r->n_steps;
            return shape;
        }
        if (shape->used < oldest->used)
            oldest = shape;
    }
    forget(r, oldest);
    oldest->n_rows = n_rows;
    oldest->stream = stream;
    oldest->used = r->n_steps;
    return NULL;
}

void recordings_begin(struct recordings *recordings, bool may, const uint32_t *positions,
                      uint32_t n_rows, const float *stream)
{
    struct recordings *r = recordings;
    r->n_steps++;
    r->positions = positions;
    r->shape = NULL;
    if (may && r->kernels->record_begin != NULL && n_rows > 0 && n_rows <= MOST_ROWS)
        r->shape = find(r, n_rows, stream);
}

/* False: it cannot be recorded. *status: of the piece; when it failed it is not kept. Nothing was done. */
static bool record(struct recordings *r, uint32_t index,
                   enum status (*piece)(void *context, struct error *error), void *context,
                   enum status *status, struct error *error)
{
    struct error why;
    *status = STATUS_OK;
    if (r->kernels->record_begin(r->device, r->positions, r->shape->n_rows, &why) != STATUS_OK)
        return false;
    *status = piece(context, error);
    struct recording *made;
    if (r->kernels->record_end(r->device, &made, &why) != STATUS_OK)
        return false;
    if (*status == STATUS_OK)
        r->shape->pieces[index] = made;
    else
        r->kernels->recording_destroy(r->device, made);
    return true;
}

enum status recordings_run(struct recordings *recordings, uint32_t index,
                           enum status (*piece)(void *context, struct error *error), void *context,
                           struct error *error)
{
    struct recordings *r = recordings;
    struct shape *shape = r->shape;
    if (shape == NULL || shape->failed)
        return piece(context, error);
    if (shape->pieces[index] == NULL) {
        enum status status;
        shape->failed = !record(r, index, piece, context, &status, error);
        if (shape->failed)
            return piece(context, error);
        if (status != STATUS_OK)
            return status;
    }
    r->n_replayed++;
    r->kernels->replay(r->device, shape->pieces[index], r->positions);
    return STATUS_OK;
}
