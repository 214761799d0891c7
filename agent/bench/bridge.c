// What the bridge costs: the whole loop of simulator, bridge and agent, with a policy that does not think.
//
// Two processes over ipc, as users run them, or two threads over inproc. The clock runs between the agent's decisions,
// so connecting and opening files are outside. Beside every figure stands what libzmq does with messages of the same
// sizes between the same two, one under way at a time as in the protocol.
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/bench/bench.h"
#include "agent/serve.h"
#include "agent/simulator.h"
#include "bridge/bare.h"
#include "bridge/wire.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

enum { PASSES = 3 };

typedef struct setting {
  const char *name;
  int lanes, episodes; // a lane plays
  bool ipc, record;
  const m4n_scenario *scenario;
  char endpoint[128], events[128];
} setting;

typedef struct figures {
  double rate;     // lane-steps a second
  double p50, p99; // us a round trip
} figures;

// ---- the other side: a process of its own, or a thread

typedef int (*side)(void *self);

typedef struct partner {
  pid_t pid; // 0: a thread
  pthread_t thread;
  side run;
  void *self;
  int status;
} partner;

static void *run_thread(void *self) {
  partner *p = self;
  p->status = p->run(p->self);
  if (p->status) m4n_log(M4N_LOG_WARN, "bench: %s", m4n_error_message());
  return NULL;
}

static int start(partner *p, bool process, side run, void *self) {
  *p = (partner){.run = run, .self = self};
  if (!process)
    return pthread_create(&p->thread, NULL, run_thread, p) ? m4n_fail(M4N_ENOMEM, "cannot start a thread")
                                                           : M4N_OK;
  p->pid = fork();
  if (p->pid < 0) return m4n_fail(M4N_ENOMEM, "cannot start a process");
  if (!p->pid) {
    run_thread(p);
    _exit(p->status != 0);
  }
  return M4N_OK;
}

static int finish(partner *p) {
  if (!p->pid) {
    pthread_join(p->thread, NULL);
  } else {
    int how;
    p->status = waitpid(p->pid, &how, 0) == p->pid && WIFEXITED(how) ? WEXITSTATUS(how) : 1;
  }
  return p->status ? m4n_fail(M4N_EIO, "the benchmark's other side failed") : M4N_OK;
}

static int by_size(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static void percentiles(int64_t *round_ns, int n, figures *f) {
  qsort(round_ns, (size_t)n, sizeof *round_ns, by_size);
  f->p50 = (double)round_ns[n / 2] * 1e-3;
  f->p99 = (double)round_ns[n - 1 - n / 100] * 1e-3;
}

// ---- the whole loop

typedef struct clocked {
  m4n_server_owner inner;
  int64_t start_ns, last_ns, rows;
  int64_t *round_ns;
  int rounds, room;
} clocked;

static int clocked_began(void *self, m4n_server *server, m4n_session *session) {
  const clocked *c = self;
  return c->inner.began(c->inner.self, server, session);
}

// From one question to the next: a round trip seen from the agent, its own decision and the simulator's step included.
static int clocked_decide(void *self, m4n_server *server, const m4n_rows *rows, m4n_replies *replies) {
  clocked *c = self;
  int64_t now = m4n_now_ns();
  if (!c->start_ns) {
    c->start_ns = now;
  } else {
    c->rows += rows->n;
    if (c->rounds < c->room) c->round_ns[c->rounds++] = now - c->last_ns;
  }
  c->last_ns = now;
  return c->inner.decide(c->inner.self, server, rows, replies);
}

static void clocked_ended(void *self, m4n_server *server, m4n_session *session, bool lost) {
  const clocked *c = self;
  c->inner.ended(c->inner.self, server, session, lost);
}

static bool clocked_finished(void *self) {
  const clocked *c = self;
  return c->inner.finished(c->inner.self);
}

typedef struct simulator_side {
  const setting *set;
  void *context;
} simulator_side;

static int simulate(void *self) {
  const simulator_side *s = self;
  m4n_simulator simulator;
  M4N_TRY(m4n_simulator_open(&simulator, s->set->scenario, s->set->lanes, 1));
  int status = m4n_simulator_play(&simulator, s->set->scenario, s->set->endpoint, s->context, NULL);
  m4n_simulator_close(&simulator);
  return status;
}

static int serve(const setting *set, m4n_server *server, clocked *clock) {
  const m4n_serve_options options = {.policy = set->scenario->evaluate.policies,
                                     .n_policies = 1,
                                     .episodes = (int64_t)set->lanes * set->episodes,
                                     .seed = 1,
                                     .slots = set->lanes,
                                     .events = set->record ? set->events : NULL};
  m4n_serve *serve;
  M4N_TRY(m4n_serve_open(&serve, &options));
  clock->inner = m4n_serve_owner(serve);
  const m4n_server_owner owner = {clock, clocked_began, clocked_decide, clocked_ended, clocked_finished};
  int status = m4n_server_run(server, &owner, NULL);
  int written = m4n_serve_close(serve, NULL);
  return status ? status : written;
}

static int play(const setting *set, figures *out) {
  clocked clock = {.room = 1 << 20};
  simulator_side self = {.set = set};
  partner other;
  m4n_server *server = NULL;
  clock.round_ns = malloc((size_t)clock.room * sizeof *clock.round_ns);
  if (!clock.round_ns) return m4n_fail(M4N_ENOMEM, "no memory for a benchmark");
  // A process is made before any thread; its connection waits for the address.
  int status = set->ipc ? start(&other, true, simulate, &self) : M4N_OK;
  if (!status)
    status = m4n_server_open(
        &server, &(m4n_server_options){
                     .endpoint = set->endpoint, .slots = set->lanes, .lockstep = true, .wait_ms = 10000});
  if (!status && !set->ipc) {
    self.context = m4n_server_context(server);
    status = start(&other, false, simulate, &self);
  }
  if (!status) {
    status = serve(set, server, &clock);
    int theirs = finish(&other);
    if (!status) status = theirs;
  }
  m4n_server_close(server);
  if (!status && clock.rounds) {
    out->rate = (double)clock.rows / ((double)(clock.last_ns - clock.start_ns) * 1e-9);
    percentiles(clock.round_ns, clock.rounds, out);
  }
  free(clock.round_ns);
  return status;
}

// ---- libzmq alone

typedef struct bare_side {
  const char *endpoint;
  void *context;
  size_t size;
  int rounds;
} bare_side;

static int answer(void *self) {
  const bare_side *s = self;
  return m4n_bare_answer(s->endpoint, s->context, s->size, s->rounds);
}

// The bytes of a STEP and an ACT for that many lanes.
static int frame_sizes(const setting *set, size_t *step, size_t *act) {
  const m4n_task *task;
  m4n_world *world;
  m4n_buffer buffer = {0};
  M4N_TRY(m4n_simulator_world(&task, &world, set->scenario));
  const m4n_spec *spec = task->spec(world);
  size_t row = spec->obs_size + 64 * sizeof(double); // more than any field of a row
  uint8_t *zeros = calloc((size_t)set->lanes, row);
  int status = zeros ? M4N_OK : m4n_fail(M4N_ENOMEM, "no memory for a benchmark");
  if (!status) {
    void *z = zeros;
    m4n_wire_rows rows = {set->lanes, z, z, z, z, z, z, z, z, z, z, z};
    m4n_encode_step(&buffer, spec, 1, 1, &rows);
    *step = buffer.size;
    status = m4n_pack_end(&buffer, "STEP");
    m4n_act answer = {
        .n = set->lanes, .action = z, .reset = z, .delay_ns = z, .served_by = z, .logp = z, .value = z};
    m4n_encode_act(&buffer, spec, 1, 1, &answer);
    *act = buffer.size;
    if (!status) status = m4n_pack_end(&buffer, "ACT");
  }
  free(zeros);
  m4n_buffer_close(&buffer);
  task->world_close(world);
  return status;
}

static int play_bare(const setting *set, figures *out) {
  size_t step, act;
  int rounds = set->episodes * 47;
  M4N_TRY(frame_sizes(set, &step, &act));
  bare_side self = {.endpoint = set->endpoint, .size = act, .rounds = rounds};
  partner other;
  int64_t *round_ns = malloc((size_t)rounds * sizeof *round_ns), total = 0;
  if (!round_ns) return m4n_fail(M4N_ENOMEM, "no memory for a benchmark");
  int status = set->ipc ? M4N_OK : m4n_bridge_context_open(&self.context);
  if (!status) status = start(&other, set->ipc, answer, &self);
  if (!status) {
    status = m4n_bare_ask(set->endpoint, self.context, step, rounds, round_ns);
    int theirs = finish(&other);
    if (!status) status = theirs;
  }
  m4n_bridge_context_close(&self.context);
  // The first round trip waits for the connection.
  for (int i = 1; i < rounds && !status; i++) total += round_ns[i];
  if (!status) {
    out->rate = (double)set->lanes * (rounds - 1) / ((double)total * 1e-9);
    percentiles(round_ns + 1, rounds - 1, out);
  }
  free(round_ns);
  return status;
}

// ---- all of them

static void keep_best(figures *best, const figures *f) {
  best->rate = fmax(best->rate, f->rate);
  best->p50 = best->p50 > 0 ? fmin(best->p50, f->p50) : f->p50;
  best->p99 = best->p99 > 0 ? fmin(best->p99, f->p99) : f->p99;
}

static int measure(setting *set, const char *traces, const char *video) {
  char lanes[64];
  m4n_scenario *scenario;
  figures best = {0}, limit = {0}, f = {0};
  snprintf(lanes, sizeof lanes, "bridge.lanes=%d", set->lanes);
  M4N_TRY(m4n_bench_scenario(&scenario, traces, video, lanes));
  set->scenario = scenario;
  int status = M4N_OK;
  // In turn, so that a busy moment of the machine meets both.
  for (int i = 0; i < PASSES && !status; i++) {
    status = play(set, &f);
    if (!status) keep_best(&best, &f), status = play_bare(set, &f);
    if (!status) keep_best(&limit, &f);
  }
  m4n_scenario_free(scenario);
  if (status) return m4n_context(status, "%s", set->name);
  if (set->lanes > 1) {
    m4n_bench_emit(&(m4n_bench_result){"bridge", set->name, best.rate, "lane-steps/s", limit.rate});
  } else {
    char name[32];
    snprintf(name, sizeof name, "%s-p50", set->name);
    m4n_bench_emit(&(m4n_bench_result){"bridge", name, best.p50, "us", limit.p50});
    snprintf(name, sizeof name, "%s-p99", set->name);
    m4n_bench_emit(&(m4n_bench_result){"bridge", name, best.p99, "us", limit.p99});
  }
  return M4N_OK;
}

int m4n_bench_bridge(const char *traces, const char *video) {
  setting settings[] = {
      {.name = "inproc-64", .lanes = 64, .episodes = 40},
      {.name = "ipc-256", .lanes = 256, .episodes = 40, .ipc = true},
      {.name = "ipc-256-recording", .lanes = 256, .episodes = 40, .ipc = true, .record = true},
      {.name = "ipc-1", .lanes = 1, .episodes = 100, .ipc = true}};
  char folder[] = "/tmp/m4n-bench-XXXXXX";
  if (!mkdtemp(folder)) return m4n_fail(M4N_EIO, "cannot make a folder under /tmp");
  int status = M4N_OK;
  for (size_t i = 0; i < sizeof settings / sizeof *settings && !status; i++) {
    setting *set = &settings[i];
    snprintf(set->endpoint, sizeof set->endpoint, set->ipc ? "ipc://%s/agent.sock" : "inproc://%s", folder);
    snprintf(set->events, sizeof set->events, "%s/events.bin", folder);
    status = measure(set, traces, video);
    unlink(set->events);
    if (set->ipc) unlink(set->endpoint + strlen("ipc://"));
  }
  rmdir(folder);
  return status;
}
