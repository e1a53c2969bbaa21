/* make_haystack.c - sentences until the text is full; needles where their depth is reached.
 *
 * Two generators: one draws the needles' words, one the prose, so that the words for a seed do not
 * depend on the length. The roles differ in their last 14 bytes, and the prose has none of them,
 * so that the question has one answer for a model that looks at the last bytes only. */
#include "cluster/make_haystack.h"

#include "sys/file.h"
#include "sys/random.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LEAST_TOKENS = 500,      /* for the first needle */
    TOKENS_PER_NEEDLE = 100, /* for each */
    MOST_TOKENS = 1 << 30,
    SENTENCE_BYTES = 512,
    SENTENCE_ROOM = 300, /* longer than any sentence with its gap */
    NEEDLE_ROOM = 80,    /* likewise a needle */
    STAR_COLUMNS = 72,
};

static const char *const roles[MAKE_HAYSTACK_MOST_NEEDLES] = {
    "harbour master", "lighthouse keeper", "night watchman", "chief gardener",
    "old ferryman",   "court painter",     "second cook",    "town librarian",
};

static const char *const adjectives[] = {
    "amber",  "ancient", "azure",    "brazen", "bronze",  "candid", "cobalt", "copper",
    "coral",  "crimson", "daring",   "dusky",  "eager",   "ebony",  "golden", "hidden",
    "humble", "ivory",   "jade",     "lunar",  "marble",  "misty",  "noble",  "opal",
    "pearl",  "quartz",  "restless", "ruby",   "scarlet", "silver", "velvet", "winter",
};

static const char *const animals[] = {
    "badger", "beetle", "bison",   "condor", "cricket", "dolphin", "egret",   "falcon",
    "ferret", "gannet", "gazelle", "heron",  "ibex",    "jackal",  "kestrel", "lynx",
    "magpie", "marmot", "newt",    "ocelot", "osprey",  "otter",   "panther", "plover",
    "puffin", "raven",  "salmon",  "stoat",  "swift",   "tapir",   "walrus",  "wombat",
};

static const char *const times[] = {
    "In the early morning",       "Towards evening",          "A little before noon",
    "On the first warm day",      "When the bells had rung",  "After a long silence",
    "In the middle of winter",    "Some weeks later",         "Long before the others woke",
    "While the rain was falling", "At the end of the season", "That same afternoon",
    "Once the lamps were lit",    "On market days",           "Between two storms",
    "Without any warning",        "As the tide went out",     "The year the bridge was built",
};

static const char *const people[] = {
    "the baker",           "a travelling musician", "the youngest sister",  "an old sailor",
    "the schoolteacher",   "the miller's son",      "a stranger in grey",   "the doctor",
    "the widow next door", "two fishermen",         "the clockmaker",       "a quiet student",
    "the carpenter",       "an officer on leave",   "the innkeeper's wife", "the postman",
    "a merchant of wool",  "the mapmaker",          "the organist",         "a girl with a lantern",
};

static const char *const deeds[] = {
    "carried a heavy basket",
    "told the story of the flood",
    "bought three yards of cloth",
    "lost a silver button",
    "counted the passing carts",
    "repaired the broken gate",
    "wrote a letter to the mayor",
    "waited for the evening coach",
    "sang an unfamiliar song",
    "sold the last of the apples",
    "drew a map of the valley",
    "found a coin from another age",
    "lit a small fire",
    "asked about the weather",
    "read the notice twice",
    "forgot an umbrella",
    "fed the grey horses",
    "opened the blue shutters",
    "planted a row of beans",
    "weighed the silver spoons",
};

static const char *const places[] = {
    "across the market square", "behind the old chapel",     "by the river",
    "near the northern gate",   "under the chestnut trees",  "at the foot of the hill",
    "along the coast road",     "in the upper village",      "beside the empty fountain",
    "on the way to the mill",   "in a room without windows", "at the edge of the forest",
    "opposite the town hall",   "inside the long barn",      "where the two roads meet",
    "on the wooden bridge",     "beyond the last houses",    "in the shade of the wall",
};

static const char *const endings[] = {
    ", and nobody asked why",
    ", as people did in those days",
    ", although the wind had turned",
    ", which surprised no one",
    " and thought no more about it",
    ", for there was little else to do",
    " until the light was gone",
    ", and then went home without a word",
    ", smiling a little",
    ", while the dogs were barking",
    ", as if it had been agreed long ago",
    " before the snow came",
    "",
    "",
    "",
    "",
};

#define PICK(random, words) ((words)[random_below((random), sizeof(words) / sizeof((words)[0]))])

struct haystack {
    char *text;
    size_t size, used;
    struct random_state prose;
    uint32_t n_sentences, n_paragraphs, n_chapters;
};

struct needle {
    char begin[MAKE_HAYSTACK_TEXT_BYTES], answer[MAKE_HAYSTACK_TEXT_BYTES];
    uint32_t depth;
    bool placed;
};

/* Nothing happens where the text has no room: the caller sees that `used` did not grow. */
static void append(struct haystack *haystack, const char *text)
{
    const size_t length = strlen(text);
    if (length > haystack->size - haystack->used)
        return;
    memcpy(haystack->text + haystack->used, text, length);
    haystack->used += length;
}

static void write_sentence(struct haystack *haystack)
{
    struct random_state *random = &haystack->prose;
    char sentence[SENTENCE_BYTES];
    const char *time = PICK(random, times), *who = PICK(random, people);
    const char *deed = PICK(random, deeds), *place = PICK(random, places);
    const char *ending = PICK(random, endings);
    if (random_below(random, 3) == 0) {
        snprintf(sentence, sizeof(sentence), "%s %s %s%s.", who, deed, place, ending);
        if (sentence[0] >= 'a' && sentence[0] <= 'z')
            sentence[0] = (char)(sentence[0] - 'a' + 'A');
    } else {
        snprintf(sentence, sizeof(sentence), "%s %s %s %s%s.", time, who, deed, place, ending);
    }
    append(haystack, sentence);
}

/* What stands between two sentences: a space, a new paragraph, or a new chapter. */
static void write_gap(struct haystack *haystack)
{
    char heading[MAKE_HAYSTACK_TEXT_BYTES];
    const bool first = haystack->n_sentences++ == 0;
    if (!first && random_below(&haystack->prose, 6) != 0) {
        append(haystack, " ");
        return;
    }
    if (first || ++haystack->n_paragraphs % 12 == 0) {
        snprintf(heading, sizeof(heading), "%sChapter %u\n\n", first ? "" : "\n\n",
                 ++haystack->n_chapters);
        append(haystack, heading);
    } else {
        append(haystack, "\n\n");
    }
}

static void write_needle(struct haystack *haystack, struct needle *needle)
{
    append(haystack, needle->begin);
    append(haystack, " ");
    append(haystack, needle->answer);
    append(haystack, ".");
    needle->placed = true;
}

/* Sentences while there is room for one and for the needles to come, then lines of stars. */
static void write_body(struct haystack *haystack, struct needle *needles, uint32_t n_needles)
{
    for (uint32_t n_left = n_needles;
         haystack->used + SENTENCE_ROOM + (size_t)n_left * NEEDLE_ROOM < haystack->size;) {
        write_gap(haystack);
        struct needle *due = NULL;
        for (uint32_t i = 0; i < n_needles && due == NULL; i++)
            if (!needles[i].placed && haystack->used >= haystack->size / 100 * needles[i].depth)
                due = &needles[i];
        if (due != NULL)
            write_needle(haystack, due);
        else
            write_sentence(haystack);
        n_left -= due != NULL;
    }
    for (uint32_t i = 0; i < n_needles; i++)
        if (!needles[i].placed) {
            append(haystack, " ");
            write_needle(haystack, &needles[i]);
        }
    append(haystack, "\n\n");
    for (uint32_t column = 0; haystack->used < haystack->size; column = (column + 1) % STAR_COLUMNS)
        haystack->text[haystack->used++] = column == STAR_COLUMNS - 1 ? '\n' : "* "[column % 2];
}

/* Words that no other needle has, so that an answer cannot be right by accident. */
static void draw_needles(struct needle needles[MAKE_HAYSTACK_MOST_NEEDLES], uint64_t seed)
{
    struct random_state random;
    uint32_t first[MAKE_HAYSTACK_MOST_NEEDLES], second[MAKE_HAYSTACK_MOST_NEEDLES];
    random_seed(&random, random_mix(seed));
    for (uint32_t i = 0; i < MAKE_HAYSTACK_MOST_NEEDLES; i++) {
        bool taken;
        do {
            first[i] = (uint32_t)random_below(&random, sizeof(adjectives) / sizeof(adjectives[0]));
            second[i] = (uint32_t)random_below(&random, sizeof(animals) / sizeof(animals[0]));
            taken = false;
            for (uint32_t j = 0; j < i; j++)
                taken |= first[j] == first[i] || second[j] == second[i];
        } while (taken);
        snprintf(needles[i].begin, sizeof(needles[i].begin), "The password of the %s is", roles[i]);
        snprintf(needles[i].answer, sizeof(needles[i].answer), "%s-%s", adjectives[first[i]],
                 animals[second[i]]);
        needles[i].placed = false;
    }
}

static enum status check(const struct make_haystack_options *options, struct error *error)
{
    if (options->n_needles == 0 || options->n_needles > MAKE_HAYSTACK_MOST_NEEDLES ||
        options->question >= options->n_needles)
        return error_set(error, STATUS_INVALID, "needle %u of %u cannot be asked for: 1 to %d",
                         options->question + 1, options->n_needles, MAKE_HAYSTACK_MOST_NEEDLES);
    for (uint32_t i = 0; i < options->n_needles; i++)
        if (options->depths[i] > 99)
            return error_set(error, STATUS_INVALID, "--depth %u: a percentage from 0 to 99",
                             options->depths[i]);
    const uint64_t least = LEAST_TOKENS + TOKENS_PER_NEEDLE * (uint64_t)options->n_needles;
    if (options->n_tokens < least || options->n_tokens > MOST_TOKENS)
        return error_set(error, STATUS_INVALID, "--tokens %llu: %u needles take %llu to %d tokens",
                         (unsigned long long)options->n_tokens, options->n_needles,
                         (unsigned long long)least, MOST_TOKENS);
    return STATUS_OK;
}

enum status make_haystack(const char *path, const struct make_haystack_options *options,
                          struct make_haystack_answer *answer, struct error *error)
{
    enum status status = check(options, error);
    if (status != STATUS_OK)
        return status;
    struct needle needles[MAKE_HAYSTACK_MOST_NEEDLES];
    draw_needles(needles, options->seed);
    size_t longest = 0; /* question: the body's length must not depend on which is asked */
    for (uint32_t i = 0; i < options->n_needles; i++) {
        needles[i].depth = options->depths[i];
        longest = strlen(needles[i].begin) > longest ? strlen(needles[i].begin) : longest;
    }
    const struct needle *asked = &needles[options->question];
    const size_t n_bytes = options->n_tokens - 1, question_bytes = strlen(asked->begin);

    struct haystack haystack = {.size = n_bytes - longest - 2};
    random_seed(&haystack.prose, options->seed);
    haystack.text = malloc(n_bytes);
    if (haystack.text == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a text of %zu bytes", n_bytes);
    write_body(&haystack, needles, options->n_needles);
    memset(haystack.text + haystack.used, '\n', n_bytes - haystack.used);
    memcpy(haystack.text + n_bytes - question_bytes, asked->begin, question_bytes);
    status = file_write(path, haystack.text, n_bytes, 0666, error);
    free(haystack.text);
    if (status == STATUS_OK) {
        snprintf(answer->question, sizeof(answer->question), "%s", asked->begin);
        snprintf(answer->answer, sizeof(answer->answer), "%s", asked->answer);
    }
    return status;
}
