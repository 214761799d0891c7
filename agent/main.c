// mamba4net: the subcommands, and what their statuses mean to a shell.
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agent/commands.h"
#include "agent/learn/model_policy.h"
#include "agent/version.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

m4n_stop m4n_interrupted;

static const struct {
  const char *name, *summary;
  int (*run)(int argc, char **argv);
} commands[] = {
    {"run", "evaluate policies on a scenario: simulator and agent in one process", m4n_cmd_run},
    {"train", "learn from simulators: teacher, student, and how good they are", m4n_cmd_train},
    {"ablate", "train variants of a scenario with several seeds, and compare them in one table",
     m4n_cmd_ablate},
    {"serve", "the agent alone: answers simulators over a socket", m4n_cmd_serve},
    {"sim", "the simulator alone: plays a scenario against an agent", m4n_cmd_sim},
    {"trace", "look at, convert, generate and fit throughput traces", m4n_cmd_trace},
    {"report", "tables and plots from one or several runs", m4n_cmd_report},
    {"replay", "re-run a recorded run and compare it bit for bit", m4n_cmd_replay},
    {"model", "what a model is: shape, parameters, bytes, memory", m4n_cmd_model},
    {"bench", "measure this machine: simulator, bridge, policies", m4n_cmd_bench},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_help(void) {
  puts("mamba4net COMMAND [OPTION]… [ARGUMENT]…\n\n"
       "Learned network control: simulators, policies and the bridge between them.\n\n"
       "Commands (mamba4net COMMAND --help tells more):");
  for (int i = 0; i < COMMANDS; i++) printf("  %-8s %s\n", commands[i].name, commands[i].summary);
  puts("\n  --version  this build, its libraries, and whether it has CUDA\n"
       "  --help     this text\n\n"
       "Exit status: 0 done; 1 results differ, or the machine failed; 2 something given was refused (an "
       "option, a\n"
       "file, an address, a peer, a place to write to); 130 interrupted.");
}

// What a user can mend is 2; what the machine or the results are to blame for is 1.
static int exit_status(int status) {
  switch (status) {
  case M4N_OK:
    return 0;
  case M4N_ECANCELLED:
    return 130;
  case M4N_ENOMEM:
  case M4N_EDIVERGED:
  case M4N_EDIFFERS:
  case M4N_EDEVICE:
    return 1;
  default:
    return 2;
  }
}

static void interrupt(int signal) {
  (void)signal;
  m4n_stop_request(&m4n_interrupted);
}

static void let_the_write_fail(int signal) {
  (void)signal;
}

static void catch_signals(void) {
  struct sigaction action = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND};
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  // A limit on files and a reader that left are errors of the write in question, which says what is wrong, and no reason to
  // be killed. Caught and not ignored: what is ignored stays so in gnuplot, which does not look at its writes.
  action = (struct sigaction){.sa_handler = let_the_write_fail, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  sigaction(SIGXFSZ, &action, NULL);
  sigaction(SIGPIPE, &action, NULL);
}

static int run(int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : "";
  if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
    print_help();
    return M4N_OK;
  }
  if (!strcmp(name, "--version")) {
    printf("mamba4net %s%s%s\n%s", m4n_version, *m4n_commit ? ", commit " : "", m4n_commit, m4n_build);
    return M4N_OK;
  }
  for (int i = 0; i < COMMANDS; i++)
    if (!strcmp(name, commands[i].name)) return commands[i].run(argc - 1, argv + 1);
  return *name ? m4n_fail(M4N_EARG, "%s: unknown command (see mamba4net --help)", name)
               : m4n_fail(M4N_EARG, "no command (see mamba4net --help)");
}

int main(int argc, char **argv) {
  catch_signals();
  m4n_model_policies_register();
  int status = run(argc, argv);
  if (status) fprintf(stderr, "mamba4net: %s\n", m4n_error_message());
  m4n_log_close();
  // What did not reach standard output (a full disk) must not look like success.
  if ((fflush(stdout) || ferror(stdout)) && !status) {
    fprintf(stderr, "mamba4net: standard output: cannot write\n");
    return 2;
  }
  return exit_status(status);
}
