/* The options of a subcommand: declared once, read and explained from the same table.
 *
 *     const char *out = NULL;
 *     bool quiet = false;
 *     const m4n_option options[] = {{"out", "DIR", "folder for the results", M4N_OPTION_TEXT, &out},
 *                                   {"quiet", NULL, "no progress", M4N_OPTION_FLAG, &quiet}};
 *     m4n_arguments arguments;
 *     M4N_TRY(m4n_options_read(&usage, options, 2, argc, argv, &arguments));
 *     if (arguments.helped) return M4N_OK;                                   // --help was asked for and printed
 */
#ifndef M4N_AGENT_OPTIONS_H
#define M4N_AGENT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/scenario.h"

#ifdef __cplusplus
extern "C" {
#endif

enum m4n_option_type {
  M4N_OPTION_FLAG, /* bool */
  M4N_OPTION_TEXT, /* const char * */
  M4N_OPTION_INT,  /* int64_t; within low … high */
  M4N_OPTION_LIST  /* m4n_option_list: may stand several times */
};

enum { M4N_OPTION_MOST = 1024 }; /* a shell's *.csv may be many */

typedef struct m4n_option_list {
  const char *item[M4N_OPTION_MOST];
  int n;
} m4n_option_list;

typedef struct m4n_option {
  const char *name;  /* without "--" */
  const char *value; /* what the help calls its value; NULL for a flag */
  const char *help;
  int type;
  void *into;
  int64_t low, high;
} m4n_option;

typedef struct m4n_usage {
  const char *command;   /* "run" */
  const char *arguments; /* "SCENARIO" */
  const char *text;      /* what it does: lines, ended by \n */
  int least, most;       /* arguments that are no options */
} m4n_usage;

typedef struct m4n_arguments {
  const char *item[M4N_OPTION_MOST];
  int n;
  bool helped;
} m4n_arguments;

/* "--name value", "--name=value", "--" before arguments that begin with "-". argv[0] is the command. EARG names
 * the option and what was expected. */
int m4n_options_read(const m4n_usage *usage, const m4n_option *options, int n_options, int argc, char **argv,
                     m4n_arguments *arguments);

/* Options that several commands have. */
#define M4N_OPTION_SET(into)                                                                                 \
  {                                                                                                          \
    "set", "KEY=VALUE", "override a key of the scenario; may stand several times", M4N_OPTION_LIST, into, 0, \
        0                                                                                                    \
  }
#define M4N_OPTION_THREADS(into)                                                                             \
  { "threads", "N", "threads (default: one a processor)", M4N_OPTION_INT, into, 1, 256 }
#define M4N_OPTION_JSON(into)                                                                                \
  { "json", NULL, "summary.json on standard output in place of the table", M4N_OPTION_FLAG, into, 0, 0 }
#define M4N_OPTION_QUIET(into)                                                                               \
  { "quiet", NULL, "no progress, only warnings", M4N_OPTION_FLAG, into, 0, 0 }
#define M4N_OPTION_HELP_KEYS(into)                                                                           \
  { "help-keys", NULL, "every key of a scenario: meaning, values, default", M4N_OPTION_FLAG, into, 0, 0 }
/* Where models run; NULL (not given) becomes "auto", a word that is none of these is refused. */
#define M4N_OPTION_DEVICE(into)                                                                              \
  { "device", "D", "where models run: cpu, cuda, cuda-tf32 or auto (default)", M4N_OPTION_TEXT, into, 0, 0 }
int m4n_options_device(const char **device);

/* What several commands take: the scenario with its --set and --seed (NULL: none); a seed by itself; the address of
 * --endpoint, else of the scenario (NULL: none), where inproc, which ends at a process, means ipc. */
int m4n_options_scenario(m4n_scenario **scenario, const char *path, const m4n_option_list *sets,
                         const char *seed);
int m4n_options_seed(uint64_t *seed, const char *text);
int m4n_options_endpoint(char **uri, const char *endpoint, const m4n_scenario *scenario);

#ifdef __cplusplus
}
#endif
#endif
