/* tests/fuzz/huggingface_files.h - kinds of the pieces of fuzz_huggingface.c. */
#ifndef LONGSPAN_TESTS_FUZZ_HUGGINGFACE_FILES_H
#define LONGSPAN_TESTS_FUZZ_HUGGINGFACE_FILES_H

enum {
    HF_FILE_CONFIG,
    HF_FILE_WEIGHTS,
    HF_FILE_INDEX,
    HF_FILE_SECOND,
    HF_FILE_TOKENIZER_CONFIG,
    HF_FILE_TEMPLATE,
    HF_FILES,
    HF_HEADER = 0x80
};

#endif
