/* fuzz_gguf.c - a model file: opened, its hyper-parameters and tensors checked, shown, cut in
 * segments; every byte of every tensor is inside the file. */
#include "tests/fuzz/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz_file bytes;
    fuzz_file_open(&bytes, data, n);
    fuzz_model(bytes.path, n % 2 == 0);
    fuzz_file_close(&bytes);
    return 0;
}
