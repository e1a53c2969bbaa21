/* cluster/agent.h - `longspan agent`: what the head of a cluster starts through ssh on each other
 * machine, to look around there, to leave the cluster key and the weights, and to notice when it is
 * gone.
 *
 * It says one greeting, then answers requests, one after the other: a line of JSON each, on
 * standard input and output. Bytes that belong to a request follow its line.
 *
 *     longspan-agent {"protocol": 1, "version": "...", "host": "cpu07"}
 *     {"do": "programs", "workers": bool, "nodes": bool, "mpi": DIR or ""}
 *                                      {"worker": PATH, "node": PATH, "mpi": "4.1.4" or "",
 *                                       "addresses": ["10.0.0.2/24", ...]}
 *     {"do": "key", "bytes": N} ...    {"path": PATH}    it is removed when the agent ends
 *     {"do": "model", "path": PATH}    {"fingerprint": HEX}
 *     {"do": "find", "dir": DIR or "", "set": SET}       {"path": PATH} or {"missing": true}
 *     {"do": "take", "dir": DIR or "", "set": SET} ...   {"path": PATH}
 *     {"do": "listen", "interface": NET or ""}           {"host": ADDRESS, "port": N}
 *     {"do": "reach", "host": HOST or "", "port": N}     {}    "": where the ssh connection came from
 *     {"do": "measure", "devices": ["cpu", ...]}         {"devices": [...]}   plan_probe.h's
 *
 * SET is weights_set.h's. A failure is {"error": TEXT, "exit": 2 or 3}, and the agent ends after
 * it. It ends with its standard input: with the connection, whoever closed it. */
#ifndef LONGSPAN_CLUSTER_AGENT_H
#define LONGSPAN_CLUSTER_AGENT_H

#define AGENT_GREETING "longspan-agent "

enum {
    AGENT_PROTOCOL = 1,
    AGENT_MOST_REQUEST_BYTES = 32 << 20, /* of a line: a model may have thousands of files */
    AGENT_MOST_ANSWER_BYTES = 16384,
    AGENT_MOST_KEY_BYTES = 4096,
};

/* argv[0] is "agent". Returns the program's exit code. */
int agent_main(int argc, char **argv);

#endif
