/* The parts of `mamba4net trace`. Only for agent/trace_*.c and agent/cmd_trace.c; status, argv[0] is the part's name. */
#ifndef M4N_AGENT_TRACE_COMMAND_H
#define M4N_AGENT_TRACE_COMMAND_H

#include "traces/throughput/throughput.h"

int m4n_trace_info(int argc, char **argv);
int m4n_trace_convert(int argc, char **argv);
int m4n_trace_gen(int argc, char **argv);
int m4n_trace_fit(int argc, char **argv);
int m4n_trace_list_models(int argc, char **argv);

/* The format that --`option` names; NULL leaves *format alone. EARG lists the names. */
int m4n_trace_option_format(const char *option, const char *text, int *format);

/* Draws the sets' rates: some traces over time, and the share of time below a rate. Made whole or not at all.
 * EUNSUPPORTED where gnuplot is missing. */
int m4n_trace_plot(const char *path, const m4n_traces *set, const char *const *label, int sets);

#endif
