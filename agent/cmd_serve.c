// mamba4net serve: the agent alone.
#include <stdlib.h>
#include <string.h>

#include "agent/commands.h"
#include "agent/evaluation.h"
#include "agent/model/safetensors.h"
#include "agent/models.h"
#include "agent/options.h"
#include "agent/policy.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

enum { MANY_LANES = 1024 }; // several simulators of the usual size

static const m4n_usage usage = {
    "serve", "[SCENARIO]",
    "With a SCENARIO: evaluates its policies on whoever connects (mamba4net sim, or any simulator\n"
    "that speaks bridge/PROTOCOL.md), writes the run's folder as `run` does, and exits.\n"
    "With --policy or --model: answers every simulator with that policy until SIGINT or SIGTERM; that is "
    "its\n"
    "usual end, with exit status 0. Nothing is recorded.\n"
    "\n"
    "Only this machine can connect: tcp is refused beyond loopback.\n",
    0, 1};

static int evaluate(const m4n_scenario *scenario, const char *uri, const char *out, int lanes, int threads,
                    const char *device, bool json) {
  m4n_evaluation evaluation;
  const m4n_evaluation_options options = {.scenario = scenario,
                                          .endpoint = uri,
                                          .slots = lanes,
                                          .wait_ms = scenario->bridge.wait_ms,
                                          .out = out,
                                          .threads = threads,
                                          .device = device,
                                          .json = json};
  M4N_TRY(m4n_evaluation_open(&evaluation, &options));
  m4n_log(M4N_LOG_INFO, "serving '%s' at %s", scenario->name, m4n_server_endpoint(evaluation.loop.server));
  return m4n_evaluation_close(&evaluation, m4n_evaluation_serve(&evaluation, &m4n_interrupted));
}

// What would otherwise be found out when a simulator comes.
static int check_policy(const char *name) {
  const m4n_policy_kind *kind;
  M4N_TRY(m4n_policy_find(&kind, name));
  if (kind->match == M4N_MATCH_MODEL)
    return m4n_fail(M4N_EARG, "policy '%s' has no checkpoint without a scenario: say --model FILE", name);
  if (kind->match != M4N_MATCH_FILE) return M4N_OK;
  char *path = strndup(name, m4n_policy_settings(kind, name));
  m4n_safetensors *file = NULL;
  int status = path ? m4n_safetensors_open(&file, path) : m4n_fail(M4N_ENOMEM, "no memory for a path");
  m4n_safetensors_close(file);
  free(path);
  return status;
}

static int stay(m4n_serve_options o, const char *uri, bool lockstep, int threads) {
  m4n_serve *serve;
  m4n_server *server;
  const m4n_server_options options = {
      .endpoint = uri, .slots = o.slots, .lockstep = lockstep, .policy = o.policy[0]};
  M4N_TRY(m4n_server_open(&server, &options));
  int status = m4n_pool_open(&o.pool, threads);
  if (!status) status = m4n_serve_open(&serve, &o);
  if (!status) {
    m4n_serve_stats stats;
    m4n_server_owner owner = m4n_serve_owner(serve);
    m4n_log(M4N_LOG_INFO, "serving policy '%s' at %s", o.policy[0], m4n_server_endpoint(server));
    status = m4n_server_run(server, &owner, &m4n_interrupted);
    m4n_serve_close(serve, &stats);
    m4n_log(M4N_LOG_INFO, "%lld episodes, %lld decisions", (long long)stats.finished,
            (long long)stats.decisions);
  }
  if (o.pool) m4n_pool_close(o.pool);
  m4n_server_close(server);
  return status == M4N_ECANCELLED ? M4N_OK : status;
}

int m4n_cmd_serve(int argc, char **argv) {
  m4n_option_list sets = {0};
  const char *out = NULL, *seed = NULL, *endpoint = NULL, *policy = NULL, *fallback = NULL;
  const char *model = NULL, *device = NULL;
  int64_t threads = 0, lanes = 0, decide_ms = 0;
  bool json = false, quiet = false, lockstep = false;
  const m4n_option options[] = {
      {"policy", "NAME", "stay, and answer everybody with this policy", M4N_OPTION_TEXT, &policy, 0, 0},
      {"model", "FILE", "the same with a checkpoint; settings may follow: FILE:stream:sample",
       M4N_OPTION_TEXT, &model, 0, 0},
      M4N_OPTION_DEVICE(&device),
      {"endpoint", "E", "ipc (default), tcp or a URI", M4N_OPTION_TEXT, &endpoint, 0, 0},
      {"lanes", "N", "lanes of all simulators together (default: 1024)", M4N_OPTION_INT, &lanes, 1,
       M4N_MAX_LANES},
      M4N_OPTION_SET(&sets),
      {"out", "DIR", "folder of the run (default: runs/<name>-<UTC time>)", M4N_OPTION_TEXT, &out, 0, 0},
      {"seed", "N", "seed of the episodes", M4N_OPTION_TEXT, &seed, 0, 0},
      M4N_OPTION_THREADS(&threads),
      {"fallback", "NAME", "with --policy: answers when the policy is late", M4N_OPTION_TEXT, &fallback, 0,
       0},
      {"decide-ms", "N", "with --fallback: late is after so long (default: 500)", M4N_OPTION_INT, &decide_ms,
       1, 86400000},
      {"lockstep", NULL, "with --policy: wait for all simulators before answering", M4N_OPTION_FLAG,
       &lockstep, 0, 0},
      M4N_OPTION_JSON(&json),
      M4N_OPTION_QUIET(&quiet)};
  m4n_arguments arguments;
  M4N_TRY(m4n_options_read(&usage, options, sizeof options / sizeof *options, argc, argv, &arguments));
  if (arguments.helped) return M4N_OK;
  M4N_TRY(m4n_options_device(&device));
  if (model && policy)
    return m4n_fail(M4N_EARG, "--policy or --model, not both (see mamba4net serve --help)");
  if (model) policy = model;
  if (!arguments.n == !policy)
    return m4n_fail(M4N_EARG,
                    "expected a SCENARIO or --policy NAME or --model FILE (see mamba4net serve --help)");
  if (policy && (sets.n || out || json))
    return m4n_fail(M4N_EARG, "--set, --out and --json belong to a SCENARIO (see mamba4net serve --help)");
  if (!policy && (fallback || decide_ms || lockstep))
    return m4n_fail(M4N_EARG,
                    "--fallback, --decide-ms and --lockstep belong to --policy; a scenario has "
                    "bridge.fallback, bridge.decide_ms and bridge.mode (see mamba4net serve --help)");
  if (quiet) m4n_log_set_level(M4N_LOG_WARN);

  char *uri = NULL;
  int status;
  if (policy) {
    uint64_t number = 1;
    const m4n_policy_models models = {.device = device};
    M4N_TRY(check_policy(policy));
    if (fallback) M4N_TRY(check_policy(fallback));
    if (seed) M4N_TRY(m4n_options_seed(&number, seed));
    M4N_TRY(m4n_options_endpoint(&uri, endpoint, NULL));
    const m4n_serve_options serve = {.policy = &policy,
                                     .n_policies = 1,
                                     .episodes = -1,
                                     .seed = number,
                                     .slots = lanes ? (int)lanes : MANY_LANES,
                                     .title = "episodes",
                                     .fallback = fallback,
                                     .models = &models,
                                     .decide_ms = decide_ms ? (int)decide_ms : 500};
    status = stay(serve, uri, lockstep, (int)threads);
  } else {
    m4n_scenario *scenario;
    M4N_TRY(m4n_models_scenario(&scenario, arguments.item[0], &sets, seed));
    status = m4n_options_endpoint(&uri, endpoint, scenario);
    if (!lanes) lanes = scenario->bridge.lanes > MANY_LANES ? scenario->bridge.lanes : MANY_LANES;
    if (!status) status = evaluate(scenario, uri, out, (int)lanes, (int)threads, device, json);
    m4n_scenario_free(scenario);
  }
  free(uri);
  return status;
}
