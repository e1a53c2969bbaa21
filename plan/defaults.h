/* plan/defaults.h - default values of options, for a coordinator that starts and for a plan of one.
 *
 * DEFAULTS_TEXT makes words of the numbers, for tables of options and their help. */
#ifndef LONGSPAN_PLAN_DEFAULTS_H
#define LONGSPAN_PLAN_DEFAULTS_H

#define DEFAULTS_CHUNK     512  /* prompt tokens of a step */
#define DEFAULTS_MAX_BATCH 64   /* sequences at once */
#define DEFAULTS_STRIPE    4096 /* tokens that lie together on a KV holder */
#define DEFAULTS_KV_TYPE   "f16"

#define DEFAULTS_TEXT(number) DEFAULTS_WORD(number)
#define DEFAULTS_WORD(number) #number

#endif
