/* model/chat/jinja_text.h - Python's string methods on UTF-8: positions count characters.
 *
 * White space is Python's (str.isspace). Case is that of single characters (towupper in C.UTF-8, or
 * ASCII where the system has no such locale): characters that become several, as the German sharp
 * s, stay. */
#ifndef LONGSPAN_MODEL_CHAT_JINJA_TEXT_H
#define LONGSPAN_MODEL_CHAT_JINJA_TEXT_H

#include "model/chat/jinja_pool.h"
#include "model/chat/jinja_value.h"

/* The bytes of the white space character at `text`; 0: it is none. */
size_t jinja_text_space(const char *text, size_t n_bytes);

/* Characters of a well-formed text. */
size_t jinja_text_length(struct jinja_string text);

/* The byte at which character `index` begins; n_bytes when there are fewer. */
size_t jinja_text_offset(struct jinja_string text, size_t index);

/* Without white space, or without the characters of `*chars`, at the ends. A part of `text`. */
struct jinja_string jinja_text_strip(struct jinja_string text, const struct jinja_string *chars,
                                     bool left, bool right);

bool jinja_text_starts(struct jinja_string text, struct jinja_string with);
bool jinja_text_ends(struct jinja_string text, struct jinja_string with);

/* The first place of a text that is not empty at or behind byte `from`; SIZE_MAX: none. Linear. */
size_t jinja_text_find(struct jinja_string text, struct jinja_string what, size_t from);

enum jinja_case {
    JINJA_UPPER,
    JINJA_LOWER,
    JINJA_CAPITALIZE,   /* the first upper, all others lower */
    JINJA_TITLE_METHOD, /* str.title: upper behind what is no letter */
    JINJA_TITLE_FILTER, /* of jinja2: upper behind white space and -({[< */
};

/* data is NULL when there is no memory. */
struct jinja_string jinja_text_case(struct jinja_pool *pool, struct jinja_string text,
                                    enum jinja_case how);

/* str.isprintable of one character: repr writes it as it is. */
bool jinja_text_printable(uint32_t code_point);

bool jinja_text_alpha(uint32_t code_point);

#endif
