/* cluster/words.h - a command line, word by word: for exec, for people, and for another shell.
 *
 * Adding never fails; a word that was lost for want of memory is told by `failed`, once, by who
 * uses the words. */
#ifndef LONGSPAN_CLUSTER_WORDS_H
#define LONGSPAN_CLUSTER_WORDS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Zeroed: none. argv: `n` words, then NULL; NULL itself while there is none. */
struct words {
    char **argv;
    uint32_t n;
    size_t capacity;
    bool failed;
};

void words_add(struct words *words, const char *word);

/* All of them, ended by (char *)NULL. */
void words_add_list(struct words *words, ...);

/* An option and its value; nothing where the value is absent (NULL, "", 0 or false). Bytes are
 * written in the largest unit that says them exactly. */
void words_add_text(struct words *words, const char *option, const char *value);
void words_add_number(struct words *words, const char *option, uint64_t value);
void words_add_bytes(struct words *words, const char *option, uint64_t value);
void words_add_flag(struct words *words, const char *option, bool value);

/* One line that a shell would read as these words again, with its newline. */
void words_print(FILE *out, char *const *argv);

/* The same without the newline, as a string that the caller frees; NULL: no memory. */
char *words_quoted(char *const *argv);

/* Whether any shell reads the word as it stands, without quotes: letters, those of other scripts
 * too, digits and -_./:=,+@% . */
bool words_is_plain(const char *word);

/* Whether execvp would find the program. */
bool words_on_path(const char *program);

void words_free(struct words *words);

#endif
