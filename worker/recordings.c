/* recordings.c - a small cache of shapes; a shape that comes once, as most of those with prompts
 * do, costs nothing but its place. */
#include "worker/recordings.h"

#include <stdlib.h>

enum {
    SHAPES = 8,
    MOST_ROWS = 64, /* with more, a call takes the device longer than the host */
};

struct piece {
    struct recording *recording; /* or NULL */
    uint64_t kind;
};

struct shape {
    struct recordings_shape is; /* n_rows 0: free */
    uint64_t used;              /* when, in steps */
    bool failed;                /* something of it cannot be recorded */
    struct piece *pieces;
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
        r->kernels->recording_destroy(r->device, shape->pieces[i].recording);
        shape->pieces[i].recording = NULL;
    }
    shape->is.n_rows = 0;
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
static struct shape *find(struct recordings *r, const struct recordings_shape *wanted)
{
    struct shape *oldest = &r->shapes[0];
    for (int i = 0; i < SHAPES; i++) {
        struct shape *shape = &r->shapes[i];
        if (shape->is.n_rows == wanted->n_rows && shape->is.stream == wanted->stream &&
            shape->is.kv == wanted->kv && shape->is.launches == wanted->launches) {
            shape->used = r->n_steps;
            return shape;
        }
        if (shape->used < oldest->used)
            oldest = shape;
    }
    forget(r, oldest);
    oldest->is = *wanted;
    oldest->used = r->n_steps;
    return NULL;
}

void recordings_begin(struct recordings *recordings, bool may, const uint32_t *positions,
                      const struct recordings_shape *shape)
{
    struct recordings *r = recordings;
    r->n_steps++;
    r->positions = positions;
    r->shape = NULL;
    if (may && r->kernels->record_begin != NULL && shape->n_rows > 0 && shape->n_rows <= MOST_ROWS)
        r->shape = find(r, shape);
}

/* False: it cannot be recorded. *status: of the piece; when it failed it is not kept. Nothing was
 * done. */
static bool record(struct recordings *r, struct piece *place,
                   enum status (*piece)(void *context, struct error *error), void *context,
                   enum status *status, struct error *error)
{
    struct error why;
    *status = STATUS_OK;
    if (r->kernels->record_begin(r->device, r->positions, r->shape->is.n_rows, &why) != STATUS_OK)
        return false;
    *status = piece(context, error);
    struct recording *made;
    if (r->kernels->record_end(r->device, &made, &why) != STATUS_OK)
        return false;
    if (*status == STATUS_OK)
        place->recording = made;
    else
        r->kernels->recording_destroy(r->device, made);
    return true;
}

enum status recordings_run(struct recordings *recordings, uint32_t index, uint64_t kind,
                           enum status (*piece)(void *context, struct error *error), void *context,
                           struct error *error)
{
    struct recordings *r = recordings;
    struct shape *shape = r->shape;
    if (shape == NULL || shape->failed || kind == RECORDINGS_NOT)
        return piece(context, error);
    struct piece *place = &shape->pieces[index];
    if (place->recording != NULL && place->kind != kind) {
        r->kernels->recording_destroy(r->device, place->recording);
        place->recording = NULL;
    }
    if (place->recording == NULL) {
        enum status status;
        place->kind = kind;
        shape->failed = !record(r, place, piece, context, &status, error);
        if (shape->failed)
            return piece(context, error);
        if (status != STATUS_OK)
            return status;
    }
    r->n_replayed++;
    r->kernels->replay(r->device, place->recording, r->positions);
    return STATUS_OK;
}
