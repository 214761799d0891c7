/* The program's subcommands. Each is a function in cmd_<name>.c with main's arguments, argv[0] being its name; it
 * returns a status whose error record main prints. Results go to standard output, everything else to standard error.
 */
#ifndef M4N_AGENT_COMMANDS_H
#define M4N_AGENT_COMMANDS_H

#include "kernels/base/stop.h"

#ifdef __cplusplus
extern "C" {
#endif

int m4n_cmd_run(int argc, char **argv);
int m4n_cmd_train(int argc, char **argv);
int m4n_cmd_ablate(int argc, char **argv);
int m4n_cmd_serve(int argc, char **argv);
int m4n_cmd_sim(int argc, char **argv);
int m4n_cmd_trace(int argc, char **argv);
int m4n_cmd_report(int argc, char **argv);
int m4n_cmd_replay(int argc, char **argv);
int m4n_cmd_model(int argc, char **argv);
int m4n_cmd_bench(int argc, char **argv);

/* Set by SIGINT and SIGTERM: loops that may run long look at it and return ECANCELLED. A second signal ends the
 * program at once. */
extern m4n_stop m4n_interrupted;

#ifdef __cplusplus
}
#endif
#endif
