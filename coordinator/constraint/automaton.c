/* automaton.c - see automaton.h. */
#include "coordinator/constraint/automaton.h"

#include "sys/array.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_PLACES = 1024,     /* of a state */
    MAX_WORK = 1 << 14,    /* of one transition */
    TIDY_STATES = 1 << 15, /* then automaton_tidy forgets */
    TIDY_PLACES = 1 << 21, /* likewise: 16 MiB, and as much again of frames */
    MAX_STATES = 1 << 18,  /* between two calls of it */
    UNKNOWN = -1,          /* a transition that was not walked */
    ACCEPTED = -1,         /* the instruction of a place behind the end */
};

/* Where a rule returns to: `code` is its CALL or REPEAT. */
struct frame {
    uint32_t code, parent;    /* parent 0: the bottom */
    uint32_t least, most;     /* times that a REPEAT must and may still go */
    uint32_t distance, depth; /* bytes to the end from behind this rule; frames below and this */
    uint32_t near;            /* automaton_near of it; 0: not known */
};

struct place {
    uint32_t code, frame; /* a SET, or ACCEPTED */
};

struct state {
    uint32_t places, n_places; /* in automaton.places */
    uint32_t distance, depth, near;
    int32_t *next; /* [n_classes]; NULL: none was walked */
    bool accepts;
};

struct table {
    uint32_t *slots; /* 0: free */
    uint32_t n_slots, n;
};

struct automaton {
    const struct grammar *grammar;
    uint32_t horizon;
    struct frame *frames;
    uint32_t n_frames;
    size_t frame_capacity;
    struct place *places;
    uint32_t n_places;
    size_t place_capacity;
    struct state *states; /* the first is AUTOMATON_DEAD */
    uint32_t n_states;
    size_t state_capacity;
    struct table frame_table, state_table;
    struct place found[MAX_PLACES]; /* of the state that is being made */
    uint32_t n_found;
    uint64_t generation, work;
    bool limited;
};

static uint32_t plus(uint64_t a, uint64_t b)
{
    return a >= GRAMMAR_NEVER || b >= GRAMMAR_NEVER || a + b >= GRAMMAR_NEVER ? GRAMMAR_NEVER
                                                                              : (uint32_t)(a + b);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* `items`: the address of the array's pointer. */
static bool grow(struct automaton *m, void *items, uint64_t wanted, size_t *capacity, size_t bytes)
{
    if (wanted <= UINT32_MAX / 2 && array_grow(items, capacity, wanted, bytes))
        return true;
    m->limited = true;
    return false;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15ull;
    return hash ^ (hash >> 29);
}

/* Room for one more; `hash_of` item i, to move what is there. */
static bool table_room(struct automaton *m, struct table *t,
                       uint64_t (*hash_of)(const struct automaton *, uint32_t))
{
    if (2 * (t->n + 1) <= t->n_slots)
        return true;
    const uint32_t n_slots = t->n_slots > 0 ? 2 * t->n_slots : 1024;
    uint32_t *slots = calloc(n_slots, sizeof(*slots));
    if (slots == NULL) {
        m->limited = true;
        return false;
    }
    for (uint32_t i = 0; i < t->n_slots; i++) {
        if (t->slots[i] == 0)
            continue;
        uint32_t at = (uint32_t)hash_of(m, t->slots[i]) & (n_slots - 1);
        while (slots[at] != 0)
            at = (at + 1) & (n_slots - 1);
        slots[at] = t->slots[i];
    }
    free(t->slots);
    t->slots = slots;
    t->n_slots = n_slots;
    return true;
}

/* ---- frames ---------------------------------------------------------------------------------- */

static uint64_t frame_hash(const struct automaton *m, uint32_t i)
{
    const struct frame *f = &m->frames[i];
    return mix(mix(mix(mix(1, f->code), f->parent), f->least), f->most);
}

/* The frame's number; 0: no memory (`limited` says so). */
static uint32_t frame_of(struct automaton *m, uint32_t code, uint32_t parent, uint32_t least,
                         uint32_t most)
{
    const struct grammar_instruction *i = &m->grammar->code[code];
    if (!grow(m, &m->frames, m->n_frames + 1ull, &m->frame_capacity, sizeof(*m->frames)) ||
        !table_room(m, &m->frame_table, frame_hash))
        return 0;
    const struct frame *below = &m->frames[parent];
    const uint32_t body = m->grammar->shortest[m->grammar->rules[i->operand]];
    const uint32_t again =
        i->op == GRAMMAR_REPEAT && least > 0 ? plus(0, (uint64_t)body * least) : 0;
    m->frames[m->n_frames] = (struct frame){
        .code = code,
        .parent = parent,
        .least = least,
        .most = most,
        .distance = plus(plus(m->grammar->shortest[i->next], again), below->distance),
        .depth = below->depth + 1};
    struct table *t = &m->frame_table;
    uint32_t at = (uint32_t)frame_hash(m, m->n_frames) & (t->n_slots - 1);
    for (; t->slots[at] != 0; at = (at + 1) & (t->n_slots - 1)) {
        const struct frame *f = &m->frames[t->slots[at]];
        if (f->code == code && f->parent == parent && f->least == least && f->most == most)
            return t->slots[at];
    }
    t->slots[at] = m->n_frames;
    t->n++;
    return m->n_frames++;
}

/* ---- places ---------------------------------------------------------------------------------- */

struct work {
    uint32_t code, frame;
    uint32_t least, most; /* of a REPEAT that some turns were made of */
    bool counted;
};

static void add_place(struct automaton *m, uint32_t code, uint32_t frame)
{
    if (m->n_found < MAX_PLACES)
        m->found[m->n_found++] = (struct place){code, frame};
    else
        m->limited = true;
}

/* All places that can be reached from `code` without a byte. */
static void reach(struct automaton *m, uint32_t code, uint32_t frame)
{
    struct work list[512];
    uint32_t n = 0, n_done = 0;
    list[n++] = (struct work){.code = code, .frame = frame};
    while (n > 0) {
        const struct work w = list[--n];
        m->work++;
        const struct grammar_instruction *i = &m->grammar->code[w.code];
        if (n + 2 > sizeof(list) / sizeof(list[0]) || ++n_done > MAX_WORK) {
            m->limited = true;
            return;
        }
        if (!w.counted && m->grammar->shortest[w.code] == GRAMMAR_NEVER)
            continue; /* nobody comes to an end there */
        const uint32_t least = w.counted ? w.least : i->least;
        const uint32_t most = w.counted ? w.most : i->most;
        uint32_t inner;
        switch (i->op) {
        case GRAMMAR_SET:
            add_place(m, w.code, w.frame);
            break;
        case GRAMMAR_SPLIT:
            list[n++] = (struct work){.code = i->operand, .frame = w.frame};
            list[n++] = (struct work){.code = i->next, .frame = w.frame};
            break;
        case GRAMMAR_CALL:
            inner = m->grammar->code[i->next].op == GRAMMAR_RETURN && w.frame != 0
                        ? w.frame /* whoever returns returns further */
                        : frame_of(m, w.code, w.frame, 0, 0);
            if (inner != 0)
                list[n++] = (struct work){.code = m->grammar->rules[i->operand], .frame = inner};
            break;
        case GRAMMAR_REPEAT:
            if (most > 0) {
                inner = frame_of(m, w.code, w.frame, least > 0 ? least - 1 : 0,
                                 most == GRAMMAR_UNBOUNDED ? most : most - 1);
                if (inner != 0)
                    list[n++] =
                        (struct work){.code = m->grammar->rules[i->operand], .frame = inner};
            }
            if (least == 0)
                list[n++] = (struct work){.code = i->next, .frame = w.frame};
            break;
        case GRAMMAR_RETURN: {
            if (w.frame == 0) {
                add_place(m, (uint32_t)ACCEPTED, 0);
                break;
            }
            const struct frame f = m->frames[w.frame];
            if (m->grammar->code[f.code].op == GRAMMAR_REPEAT)
                list[n++] = (struct work){.code = f.code,
                                          .frame = f.parent,
                                          .least = f.least,
                                          .most = f.most,
                                          .counted = true};
            else
                list[n++] = (struct work){.code = m->grammar->code[f.code].next, .frame = f.parent};
            break;
        }
        }
    }
}

/* ---- states ---------------------------------------------------------------------------------- */

static uint64_t places_hash(const struct place *places, uint32_t n)
{
    uint64_t hash = n;
    for (uint32_t i = 0; i < n; i++)
        hash = mix(mix(hash, places[i].code), places[i].frame);
    return hash;
}

static uint64_t state_hash(const struct automaton *m, uint32_t i)
{
    return places_hash(m->places + m->states[i].places, m->states[i].n_places);
}

static int by_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return x->code != y->code ? (x->code > y->code) - (x->code < y->code)
                              : (x->frame > y->frame) - (x->frame < y->frame);
}

static struct state describe(const struct automaton *m, const struct place *places, uint32_t n)
{
    struct state s = {.n_places = n, .distance = GRAMMAR_NEVER};
    for (uint32_t i = 0; i < n; i++) {
        const struct frame *f = &m->frames[places[i].frame];
        const bool end = places[i].code == (uint32_t)ACCEPTED;
        const uint32_t distance = end ? 0 : plus(m->grammar->shortest[places[i].code], f->distance);
        s.accepts = s.accepts || end;
        if (distance < s.distance) {
            s.distance = distance;
            s.depth = f->depth;
        }
    }
    return s;
}

/* The state of the places that were found. */
static uint32_t state_of_found(struct automaton *m)
{
    uint32_t n = 0;
    qsort(m->found, m->n_found, sizeof(m->found[0]), by_place);
    for (uint32_t i = 0; i < m->n_found; i++)
        if (n == 0 || by_place(&m->found[i], &m->found[n - 1]) != 0)
            m->found[n++] = m->found[i];
    m->n_found = 0;
    if (n == 0)
        return AUTOMATON_DEAD;
    if (m->n_states >= MAX_STATES)
        m->limited = true;
    if (m->n_states >= MAX_STATES || !table_room(m, &m->state_table, state_hash) ||
        !grow(m, &m->states, m->n_states + 1ull, &m->state_capacity, sizeof(*m->states)) ||
        !grow(m, &m->places, (uint64_t)m->n_places + n, &m->place_capacity, sizeof(*m->places)))
        return AUTOMATON_DEAD;
    struct table *t = &m->state_table;
    uint32_t at = (uint32_t)places_hash(m->found, n) & (t->n_slots - 1);
    for (; t->slots[at] != 0; at = (at + 1) & (t->n_slots - 1)) {
        const struct state *s = &m->states[t->slots[at]];
        if (s->n_places == n &&
            memcmp(m->places + s->places, m->found, n * sizeof(m->found[0])) == 0)
            return t->slots[at];
    }
    struct state s = describe(m, m->found, n);
    if (s.distance == GRAMMAR_NEVER)
        return AUTOMATON_DEAD;
    s.places = m->n_places;
    memcpy(m->places + m->n_places, m->found, n * sizeof(m->found[0]));
    m->n_places += n;
    m->states[m->n_states] = s;
    t->slots[at] = m->n_states;
    t->n++;
    return m->n_states++;
}

uint32_t automaton_start(struct automaton *m)
{
    reach(m, m->grammar->rules[0], 0);
    return state_of_found(m);
}

uint32_t automaton_next(struct automaton *m, uint32_t state, uint8_t byte)
{
    const uint8_t class = m->grammar->byte_class[byte];
    struct state *s = &m->states[state];
    if (state == AUTOMATON_DEAD)
        return AUTOMATON_DEAD;
    if (s->next == NULL) {
        s->next = malloc(m->grammar->n_classes * sizeof(*s->next));
        if (s->next == NULL) {
            m->limited = true;
            return AUTOMATON_DEAD;
        }
        for (uint32_t i = 0; i < m->grammar->n_classes; i++)
            s->next[i] = UNKNOWN;
    }
    if (s->next[class] != UNKNOWN)
        return (uint32_t)s->next[class];
    const uint32_t places = s->places, n = s->n_places;
    m->work += n;
    for (uint32_t i = 0; i < n; i++) {
        const struct place place = m->places[places + i];
        if (place.code == (uint32_t)ACCEPTED)
            continue;
        const struct grammar_instruction *in = &m->grammar->code[place.code];
        if (grammar_set_has(&m->grammar->sets[in->operand], byte))
            reach(m, in->next, place.frame);
    }
    const uint32_t next = state_of_found(m);
    if (!m->limited)
        m->states[state].next[class] = (int32_t)next;
    return next;
}

bool automaton_limited(const struct automaton *m)
{
    return m->limited;
}

uint64_t automaton_work(const struct automaton *m)
{
    return m->work;
}

bool automaton_accepts(const struct automaton *m, uint32_t state)
{
    return m->states[state].accepts;
}

bool automaton_is_final(const struct automaton *m, uint32_t state)
{
    return m->states[state].accepts && m->states[state].n_places == 1;
}

uint32_t automaton_distance(const struct automaton *m, uint32_t state)
{
    return m->states[state].distance;
}

uint32_t automaton_depth(const struct automaton *m, uint32_t state)
{
    return m->states[state].depth;
}

/* ---- near states ----------------------------------------------------------------------------- */

/* Counts of which more than the horizon is left are as good as the horizon and one. */
static uint32_t near_frame(struct automaton *m, uint32_t frame)
{
    uint32_t chain[4096], n = 0;
    uint32_t f = frame;
    while (f != 0 && m->frames[f].near == 0) {
        if (n == sizeof(chain) / sizeof(chain[0]))
            return frame; /* very deep: all below is told apart */
        chain[n++] = f;
        f = m->frames[f].parent;
    }
    uint32_t near = f == 0 ? 0 : m->frames[f].near;
    while (n > 0) {
        const struct frame old = m->frames[chain[--n]];
        const uint32_t most_kept = m->horizon + 1;
        const uint32_t least = old.least < most_kept ? old.least : most_kept;
        uint32_t most = old.most;
        if (most != GRAMMAR_UNBOUNDED && most > most_kept)
            most = most_kept;
        near = frame_of(m, old.code, near, least, most);
        if (near == 0)
            return frame;
        m->frames[chain[n]].near = near;
    }
    return near;
}

uint32_t automaton_near(struct automaton *m, uint32_t state)
{
    if (m->states[state].near != 0)
        return m->states[state].near;
    const uint32_t places = m->states[state].places, n = m->states[state].n_places;
    m->n_found = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct place place = m->places[places + i];
        add_place(m, place.code, near_frame(m, place.frame));
    }
    const uint32_t near = state_of_found(m);
    if (near == AUTOMATON_DEAD || m->limited)
        return state;
    m->states[state].near = near;
    return near;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void forget(struct automaton *m)
{
    for (uint32_t i = 0; i < m->n_states; i++)
        free(m->states[i].next);
    free(m->frame_table.slots);
    free(m->state_table.slots);
    m->frame_table = m->state_table = (struct table){0};
    m->n_frames = m->n_states = m->n_places = m->n_found = 0;
    m->limited = false;
    m->generation++;
    if (grow(m, &m->frames, 1, &m->frame_capacity, sizeof(*m->frames)) &&
        grow(m, &m->states, 1, &m->state_capacity, sizeof(*m->states))) {
        m->frames[m->n_frames++] = (struct frame){0};
        m->states[m->n_states++] = (struct state){.distance = GRAMMAR_NEVER};
    }
}

struct automaton *automaton_create(const struct grammar *grammar, uint32_t horizon)
{
    struct automaton *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return NULL;
    m->grammar = grammar;
    m->horizon = horizon;
    forget(m);
    if (m->limited) {
        automaton_destroy(m);
        return NULL;
    }
    return m;
}

void automaton_destroy(struct automaton *m)
{
    if (m == NULL)
        return;
    for (uint32_t i = 0; i < m->n_states; i++)
        free(m->states[i].next);
    free(m->frame_table.slots);
    free(m->state_table.slots);
    free(m->frames);
    free(m->places);
    free(m->states);
    free(m);
}

/* Puts a frame of the old list and all below into the new one. Frames stand behind their
 * parents. */
static uint32_t move_frame(struct automaton *m, const struct frame *old, uint32_t *moved,
                           uint32_t frame)
{
    uint32_t top = frame;
    while (frame != 0 && moved[frame] == 0) {
        const uint32_t parent = old[frame].parent;
        if (parent != 0 && moved[parent] == 0) {
            frame = parent;
            continue;
        }
        moved[frame] =
            frame_of(m, old[frame].code, moved[parent], old[frame].least, old[frame].most);
        if (moved[frame] == 0)
            return 0;
        frame = top;
    }
    return moved[top];
}

uint32_t automaton_tidy(struct automaton *m, uint32_t state)
{
    if (m->n_states < TIDY_STATES && m->n_places < TIDY_PLACES && !m->limited)
        return state;
    const uint32_t n = m->states[state].n_places, n_frames = m->n_frames;
    struct place *places = malloc((n + 1u) * sizeof(*places));
    struct frame *old = malloc(n_frames * sizeof(*old));
    uint32_t *moved = calloc(n_frames, sizeof(*moved));
    if (places != NULL && old != NULL && moved != NULL) {
        memcpy(places, m->places + m->states[state].places, n * sizeof(*places));
        memcpy(old, m->frames, n_frames * sizeof(*old));
        forget(m);
        for (uint32_t i = 0; i < n; i++)
            add_place(m, places[i].code, move_frame(m, old, moved, places[i].frame));
        state = state_of_found(m);
    }
    free(places);
    free(old);
    free(moved);
    return state;
}

uint64_t automaton_generation(const struct automaton *m)
{
    return m->generation;
}
