/* tests/fuzz/reply_job.h - what fuzz_replies.c asks its node; seeds.c writes answers to it. */
#ifndef LONGSPAN_TESTS_FUZZ_REPLY_JOB_H
#define LONGSPAN_TESTS_FUZZ_REPLY_JOB_H

enum {
    REPLY_JOB = 13,
    REPLY_NODE = 5,
    REPLY_GROUP = 2,
    REPLY_HEAD_DIM = 8,
    REPLY_TOKENS =
        256, /* that the node has been sent before it is asked: a page, which can be forked */
    REPLY_FLOATS = REPLY_GROUP * (2 + REPLY_HEAD_DIM)
};

#endif
