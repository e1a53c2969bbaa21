/* fuzz_cluster_file.c - a cluster file. */
#include "cluster/cluster_file.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz_file bytes;
    struct cluster_file file = {0};
    struct error error;
    fuzz_file_open(&bytes, data, n);
    if (cluster_file_read(&file, bytes.path, &error) == STATUS_OK) {
        FUZZ_CHECK(file.n_workers >= 1 && file.n_ranks >= file.n_workers);
        FUZZ_CHECK(file.n_ranks <= CLUSTER_FILE_MOST_RANKS &&
                   file.n_nodes <= CLUSTER_FILE_MOST_NODES);
        cluster_file_free(&file);
    } else {
        FUZZ_CHECK(error.text[0] != '\0');
    }
    fuzz_file_close(&bytes);
    return 0;
}
