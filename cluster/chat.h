/* cluster/chat.h - `longspan chat`: a conversation with a model in a terminal. */
#ifndef LONGSPAN_CLUSTER_CHAT_H
#define LONGSPAN_CLUSTER_CHAT_H

/* argv[0] is "chat". Returns the exit code. */
int chat_main(int argc, char **argv);

#endif
