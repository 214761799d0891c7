#include "tests/bridge/toy.h"

#include <string.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace {

struct toy_state {
  int64_t episode;
  uint64_t seed;
  int32_t step, sum;
};

// A world is only its spec.
m4n_spec *spec_of(m4n_world *world) {
  return reinterpret_cast<m4n_spec *>(world);
}
const m4n_spec *spec_of(const m4n_world *world) {
  return reinterpret_cast<const m4n_spec *>(world);
}

int world_open(m4n_world **out, const void *) {
  m4n_spec *s = new m4n_spec();
  snprintf(s->task, sizeof s->task, "toy");
  snprintf(s->reward, sizeof s->reward, "sum of choices");
  s->capabilities = M4N_CAN_FORK | M4N_CAN_ORACLE;
  m4n_spec_add_obs(s, "time", M4N_F64, "s", 0, HUGE_VAL, 0);
  m4n_spec_add_obs(s, "matrix", M4N_F64, "1", -100, 100, 2, 2, 3);
  m4n_spec_add_obs(s, "small", M4N_F32, "1", -HUGE_VAL, HUGE_VAL, 1, 3);
  m4n_spec_add_obs(s, "jobs", M4N_I32, "1", 0, 1000, 2, -1, 2)->max_rows = 5;
  m4n_spec_add_obs(s, "allowed", M4N_U8, "1", 0, 1, 1, 4);
  m4n_spec_add_obs(s, "big", M4N_I64, "ns", -HUGE_VAL, HUGE_VAL, 0);
  m4n_spec_add_obs(s, "count", M4N_U32, "1", 0, HUGE_VAL, 0);
  m4n_field *choice = m4n_spec_add_choice(s, "choice", 4);
  snprintf(choice->mask, sizeof choice->mask, "allowed");
  m4n_spec_add_choice(s, "second", 3);
  m4n_spec_add_info(s, "first", "1", 1);
  m4n_spec_add_info(s, "second", "1", -1);
  m4n_spec_add_metric(s, "sum", "1", 1);
  m4n_spec_add_metric(s, "steps", "1", 0);
  const double episodes[] = {1000, 1000, 0}, ladder[] = {300, 750.5, 1200};
  m4n_spec_add_constant(s, M4N_EPISODES, 3, episodes);
  m4n_spec_add_constant(s, "ladder", 3, ladder);
  int status = m4n_spec_layout(s);
  if (status) return delete s, status;
  *out = reinterpret_cast<m4n_world *>(s);
  return 0;
}

void world_close(m4n_world *world) {
  delete spec_of(world);
}
const m4n_spec *spec(const m4n_world *world) {
  return spec_of(world);
}
size_t state_size(const m4n_world *) {
  return sizeof(toy_state);
}

template <typename T> T *field(const m4n_world *world, const char *name, void *row) {
  return reinterpret_cast<T *>(static_cast<uint8_t *>(row) + m4n_spec_obs(spec_of(world), name)->offset);
}

void observe(const void *memory, const m4n_world *world, m4n_io *io) {
  const toy_state *s = static_cast<const toy_state *>(memory);
  memset(io->obs, 0, spec_of(world)->obs_size);
  *field<double>(world, "time", io->obs) = s->step * 0.25;
  for (int i = 0; i < 6; i++)
    field<double>(world, "matrix", io->obs)[i] = s->step - i + (double)(s->seed % 7) / 8;
  for (int i = 0; i < 3; i++) field<float>(world, "small", io->obs)[i] = (float)s->sum / (float)(i + 1);
  uint32_t jobs = (uint32_t)((s->episode + s->step) % 6);
  *field<uint32_t>(world, "jobs", io->obs) = jobs;
  for (uint32_t i = 0; i < 2 * jobs; i++) field<int32_t>(world, "jobs", io->obs)[2 + i] = (int32_t)(i + jobs);
  for (int i = 0; i < 4; i++) field<uint8_t>(world, "allowed", io->obs)[i] = i != s->step % 4;
  *field<int64_t>(world, "big", io->obs) = -s->episode * 1000000007;
  *field<uint32_t>(world, "count", io->obs) = (uint32_t)s->step;
  if (io->info) io->info[0] = s->step, io->info[1] = s->sum;
}

void reset(void *memory, const m4n_world *world, const m4n_reset *order, m4n_io *io) {
  toy_state *s = static_cast<toy_state *>(memory);
  *s = toy_state{order->episode, order->seed, 0, 0};
  io->reward = 0, io->sim_time_ns = 0, io->flags = M4N_FIRST;
  observe(s, world, io);
}

void step(void *memory, const m4n_world *world, m4n_io *io) {
  toy_state *s = static_cast<toy_state *>(memory);
  int32_t choice, second;
  memcpy(&choice, static_cast<const uint8_t *>(io->action) + spec_of(world)->act[0].offset, sizeof choice);
  memcpy(&second, static_cast<const uint8_t *>(io->action) + spec_of(world)->act[1].offset, sizeof second);
  s->step++;
  s->sum += choice * 3 + second;
  io->reward = choice * 3 + second + 0.125;
  io->sim_time_ns = s->step * INT64_C(250000000) + io->delay_ns;
  bool last = s->step == toy_length(s->episode);
  io->flags = !last ? 0 : s->episode % 2 ? M4N_TRUNCATED : M4N_TERMINATED;
  observe(s, world, io);
}

void report(const void *memory, const m4n_world *, double *metrics) {
  const toy_state *s = static_cast<const toy_state *>(memory);
  metrics[0] = s->sum, metrics[1] = s->step;
}

const char *label(const m4n_world *, const m4n_reset *order) {
  static const char *const names[] = {"eins", "zwei", "drei é", "vier"};
  return names[order->episode % 4];
}

int oracle(const void *memory, const m4n_world *world, m4n_arena *, void **, void *action) {
  int32_t choice = static_cast<const toy_state *>(memory)->step % 3;
  memcpy(static_cast<uint8_t *>(action) + spec_of(world)->act[0].offset, &choice, sizeof choice);
  return 0;
}

} // namespace

const m4n_task toy_task = {"toy",   world_open, world_close, spec,  state_size, reset,
                           observe, step,       report,      label, oracle};

int toy_length(int64_t episode) {
  return 2 + (int)(episode % 4);
}

// ---- the owner

m4n_server_owner toy_owner::owner() {
  return {this, on_began, on_decide, on_ended, on_finished};
}

int toy_owner::order(m4n_server *server, m4n_session *session, int32_t lane) {
  if (next_ == episodes_) return 0;
  m4n_reset order = {};
  order.lane = lane;
  order.set = M4N_SET_TEST;
  order.episode = next_;
  order.seed = 1000 + (uint64_t)next_;
  order.options = want_advice ? M4N_RESET_ADVICE : 0;
  order.copy_of = -1;
  next_++;
  return m4n_server_reset(server, session, &order);
}

int toy_owner::on_began(void *self, m4n_server *server, m4n_session *session) {
  toy_owner *o = static_cast<toy_owner *>(self);
  o->began++;
  if (o->refuse) return m4n_fail(o->refuse, "we do not like simulator '%s'", session->simulator);
  for (int32_t lane = 0; lane < session->lanes; lane++) M4N_TRY(o->order(server, session, lane));
  return 0;
}

// Everything that came over the wire for this row, as text.
void toy_owner::note(const m4n_rows *r, int32_t i) {
  std::string &line = record.episodes[r->episode[i]];
  char text[256];
  snprintf(text, sizeof text, "t=%lld f=%d r=%.17g obs=", (long long)r->sim_time_ns[i], r->flags[i],
           r->flags[i] & M4N_FIRST ? 0 : r->reward[i]);
  line += text;
  for (uint32_t k = 0; k < r->spec->obs_size; k++) {
    snprintf(text, sizeof text, "%02x", r->obs[(size_t)i * r->spec->obs_size + k]);
    line += text;
  }
  snprintf(text, sizeof text, " info=%.17g,%.17g", r->info[2 * i], r->info[2 * i + 1]);
  line += text;
  if (r->flags[i] & M4N_ENDED) {
    snprintf(text, sizeof text, " metrics=%.17g,%.17g", r->metrics[2 * i], r->metrics[2 * i + 1]);
    line += text;
  }
  if (r->flags[i] & M4N_FIRST) line += std::string(" label=") + r->label[i];
  if (r->advice && r->advised[i])
    line += " advice=" + std::to_string(r->advice[(size_t)i * r->spec->act_size]);
  line += "\n";
}

int toy_owner::on_decide(void *self, m4n_server *server, const m4n_rows *rows, m4n_replies *replies) {
  toy_owner *o = static_cast<toy_owner *>(self);
  o->decided++;
  o->rows += rows->n;
  o->batches.push_back(rows->n);
  if (o->hook) return o->hook(server, rows, replies);
  for (int32_t i = 0; i < rows->n; i++) {
    o->note(rows, i);
    if (rows->flags[i] & M4N_ENDED) {
      o->played_++;
      M4N_TRY(o->order(server, rows->session[i], rows->slot[i] - rows->session[i]->first_slot));
      continue;
    }
    uint8_t *action = replies->action + (size_t)i * rows->spec->act_size;
    int32_t choice = (int32_t)((rows->episode[i] + rows->sim_time_ns[i] / 250000000) % 4),
            second = choice % 3;
    memcpy(action + rows->spec->act[0].offset, &choice, sizeof choice);
    memcpy(action + rows->spec->act[1].offset, &second, sizeof second);
    replies->delay_ns[i] = o->delay_ns;
    replies->logp[i] = -0.5f;
  }
  return 0;
}

void toy_owner::on_ended(void *self, m4n_server *, m4n_session *, bool lost) {
  toy_owner *o = static_cast<toy_owner *>(self);
  o->ended++;
  o->lost += lost;
}

bool toy_owner::on_finished(void *self) {
  toy_owner *o = static_cast<toy_owner *>(self);
  return !o->serve_on && o->began >= o->sessions && o->played_ == o->episodes_;
}

// ---- the simulator and the agent

toy_simulator::toy_simulator(int lanes) {
  if (toy_task.world_open(&world_, nullptr) || m4n_vec_open(&vec, &toy_task, world_, lanes, nullptr)) abort();
}

toy_simulator::~toy_simulator() {
  m4n_vec_close(vec);
  toy_task.world_close(world_);
}

toy_agent::toy_agent(m4n_server_options options, m4n_server_owner owner) : owner_(owner) {
  opened = m4n_server_open(&server, &options);
  if (opened) {
    message = m4n_error_message();
    return;
  }
  thread_ = std::thread([this] {
    status_ = m4n_server_run(server, &owner_, &stop_);
    if (status_) message = m4n_error_message();
  });
}

int toy_agent::join() {
  if (thread_.joinable()) thread_.join();
  return opened ? opened : status_;
}

int toy_agent::stop() {
  m4n_stop_request(&stop_);
  return join();
}

toy_agent::~toy_agent() {
  stop();
  m4n_server_close(server);
}
