/* cluster/completion.h - `longspan completion bash|zsh|fish`. */
#ifndef LONGSPAN_CLUSTER_COMPLETION_H
#define LONGSPAN_CLUSTER_COMPLETION_H

/* argv[0] is "completion". Returns the exit code. */
int completion_main(int argc, char **argv);

#endif
