/* cluster/plan.h - `longspan plan`: what a cluster would hold, and how fast it would be, before
 * anything starts. */
#ifndef LONGSPAN_CLUSTER_PLAN_H
#define LONGSPAN_CLUSTER_PLAN_H

/* argv[0] is "plan". Returns the exit code. */
int plan_main(int argc, char **argv);

#endif
