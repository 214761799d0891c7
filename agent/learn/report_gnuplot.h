/* Runs gnuplot on a script, as a child process without a shell. */
#ifndef M4N_LEARN_REPORT_GNUPLOT_H
#define M4N_LEARN_REPORT_GNUPLOT_H

#ifdef __cplusplus
extern "C" {
#endif

/* Runs `program` (NULL: "gnuplot" of the PATH) on `script` in `folder` and waits at most `seconds`. EUNSUPPORTED
 * where there is no such program; EIO with what it said on its standard error; ETIMEOUT, and then it is dead. */
int m4n_gnuplot_run(const char *program, const char *folder, const char *script, int seconds);

#ifdef __cplusplus
}
#endif
#endif
