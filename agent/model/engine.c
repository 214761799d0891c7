#include "agent/model/engine.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"

typedef struct lane {
  int step;     // of the episode: decisions so far
  int32_t seen; // tokens in the carried state; 0: it is blank
  int kept;     // steps of the window, or since the state was blank
  m4n_real action;
} lane;

struct m4n_engine {
  m4n_net *net;
  m4n_stream *s;
  m4n_engine_options options;
  int window, features, levels, d;
  lane *lane;
  m4n_real *past;   // window: [slots][window][features], a ring by step
  m4n_real *answer; // [batch][levels], on the host
  int *chosen;      // [batch] rows of a pass
  // Of a pass, first on the host, then on the backend.
  m4n_real *rows, *d_rows;
  int32_t *ints, *d_ints;
  size_t most_ints;
  m4n_real *tokens, *answers, *logits; // [batch][8][d], answers 8·d apart, [batch][levels]
};

static bool carries_state(const m4n_engine *e) {
  return e->options.context != M4N_CONTEXT_WINDOW;
}

static int take_memory(m4n_engine *e) {
  m4n_backend *backend = m4n_stream_backend(e->s);
  const size_t slots = (size_t)e->options.slots, batch = (size_t)e->options.batch;
  const size_t steps = batch * (carries_state(e) ? 1 : (size_t)e->window), tokens = steps * M4N_ABR_TOKENS;
  const size_t rows = steps * (size_t)e->features * sizeof(m4n_real),
               wide = batch * M4N_ABR_TOKENS * (size_t)e->d;
  e->most_ints = 2 * tokens + 2 * batch;
  e->lane = calloc(slots, sizeof *e->lane);
  e->chosen = malloc(batch * sizeof *e->chosen);
  if (!carries_state(e)) e->past = malloc(slots * (size_t)e->window * (size_t)e->features * sizeof *e->past);
  if (!e->lane || !e->chosen || (!carries_state(e) && !e->past))
    return m4n_fail(M4N_ENOMEM, "no memory for %d lanes", e->options.slots);
  if (!(e->answer = m4n_alloc_host(backend, batch * (size_t)e->levels * sizeof *e->answer)) ||
      !(e->rows = m4n_alloc_host(backend, rows)) || !(e->d_rows = m4n_alloc(backend, rows)) ||
      !(e->ints = m4n_alloc_host(backend, e->most_ints * sizeof *e->ints)) ||
      !(e->d_ints = m4n_alloc(backend, e->most_ints * sizeof *e->d_ints)) ||
      !(e->tokens = m4n_alloc(backend, wide * sizeof *e->tokens)) ||
      !(e->answers = m4n_alloc(backend, wide * sizeof *e->answers)) ||
      !(e->logits = m4n_alloc(backend, batch * (size_t)e->levels * sizeof *e->logits)))
    return m4n_context(m4n_last_error()->status, "deciding");
  return M4N_OK;
}

int m4n_engine_open(m4n_engine **engine, m4n_stream *stream, const m4n_engine_options *options) {
  *engine = NULL;
  M4N_TRY(m4n_config_check(&options->config, NULL));
  if (!options->config.abr.levels) return m4n_fail(M4N_EARG, "a model without a task cannot decide");
  if (options->slots < 1 || options->batch < 1)
    return m4n_fail(M4N_EARG, "%d lanes in batches of %d: expected at least 1", options->slots,
                    options->batch);
  m4n_engine *e = *engine = calloc(1, sizeof *e);
  if (!e) return m4n_fail(M4N_ENOMEM, "no memory for an engine");
  *e = (m4n_engine){.s = stream,
                    .options = *options,
                    .window = options->config.abr.window,
                    .features = m4n_abr_features(&options->config.abr),
                    .levels = options->config.abr.levels,
                    .d = options->config.backbone.d};
  m4n_net_options net = {.config = options->config, .sequences = options->batch, .format = options->format};
  if (carries_state(e)) {
    net.steps = 1;
    net.lanes = (m4n_lanes){options->slots, M4N_ABR_TOKENS * e->window, M4N_ABR_TOKENS};
  }
  int status = m4n_net_open(&e->net, stream, &net);
  if (!status) status = take_memory(e);
  if (!status) return M4N_OK;
  m4n_engine_close(e);
  *engine = NULL;
  return status;
}

void m4n_engine_close(m4n_engine *e) {
  if (!e) return;
  m4n_backend *backend = m4n_stream_backend(e->s);
  m4n_free_host(backend, e->answer);
  m4n_free_host(backend, e->rows);
  m4n_free_host(backend, e->ints);
  m4n_free(backend, e->d_rows);
  m4n_free(backend, e->d_ints);
  m4n_free(backend, e->tokens);
  m4n_free(backend, e->answers);
  m4n_free(backend, e->logits);
  m4n_net_close(e->net);
  free(e->lane);
  free(e->past);
  free(e->chosen);
  free(e);
}

m4n_net *m4n_engine_net(m4n_engine *e) {
  return e->net;
}

int m4n_context_of(const char *name) {
  static const char *const names[] = {"window", "stream", "reset"};
  for (int i = 0; i < 3; i++)
    if (strcmp(names[i], name) == 0) return i;
  return -1;
}

static void blank(m4n_engine *e, int slot) {
  e->lane[slot].kept = 0;
  e->lane[slot].seen = 0;
  if (carries_state(e)) m4n_chain_reset(e->net->chain, e->s, slot);
}

void m4n_engine_begin(m4n_engine *e, int slot) {
  e->lane[slot] = (lane){0};
  blank(e, slot);
}

// Where a step of a lane's window is kept.
static m4n_real *past_of(const m4n_engine *e, int slot, int step) {
  return e->past + ((size_t)slot * (size_t)e->window + (size_t)(step % e->window)) * (size_t)e->features;
}

void m4n_engine_acted(m4n_engine *e, int slot, int level) {
  lane *l = &e->lane[slot];
  l->action = m4n_abr_action(&e->options.config.abr, level);
  if (!carries_state(e)) past_of(e, slot, l->step - 1)[M4N_ABR_ACTION] = l->action;
}

// Sends what the host has made, and gets the answers back.
static void upload(m4n_engine *e, size_t rows, size_t ints) {
  assert(ints <= e->most_ints);
  m4n_copy_in(e->s, e->d_rows, e->rows, rows * (size_t)e->features * sizeof *e->rows);
  m4n_copy_in(e->s, e->d_ints, e->ints, ints * sizeof *e->ints);
}

static int answer(m4n_engine *e, const m4n_pass *pass, const m4n_real *hidden, int n, m4n_real *logits) {
  m4n_abr_head(e->net->abr, pass, e->logits, hidden, n);
  m4n_copy_out(e->s, e->answer, e->logits, (size_t)n * (size_t)e->levels * sizeof *e->answer);
  M4N_TRY(m4n_sync(e->s));
  for (int i = 0; i < n; i++)
    memcpy(logits + (size_t)e->chosen[i] * (size_t)e->levels, e->answer + (size_t)i * (size_t)e->levels,
           (size_t)e->levels * sizeof *logits);
  return M4N_OK;
}

// ---- window ------------------------------------------------------------------------------------------------------------

// Steps of all lanes' windows side by side, padded at the end to the longest; returns that.
static int gather_windows(m4n_engine *e, int n, const int32_t *slot) {
  int steps = 0;
  for (int i = 0; i < n; i++)
    if (e->lane[slot[e->chosen[i]]].kept > steps) steps = e->lane[slot[e->chosen[i]]].kept;
  const m4n_abr_shape *shape = &e->options.config.abr;
  int32_t *index = e->ints, *length = index + n * steps * M4N_ABR_TOKENS, *where = length + n;
  m4n_real *row = e->rows;
  for (int i = 0; i < n; i++) {
    const lane *l = &e->lane[slot[e->chosen[i]]];
    const int first = l->step - l->kept;
    for (int k = 0; k < steps; k++, row += e->features) {
      const bool real = k < l->kept;
      if (real)
        memcpy(row, past_of(e, slot[e->chosen[i]], first + k), (size_t)e->features * sizeof *row);
      else
        memset(row, 0, (size_t)e->features * sizeof *row);
      for (int t = 0; t < M4N_ABR_TOKENS; t++) *index++ = real ? m4n_abr_step_row(shape, first + k) : -1;
    }
    // The last step's action is not known yet: its token does not count.
    length[i] = l->kept * M4N_ABR_TOKENS - 1;
    where[i] = (i * steps + l->kept - 1) * M4N_ABR_TOKENS + M4N_ABR_ANSWER;
  }
  return steps;
}

static int decide_window(m4n_engine *e, int n, const int32_t *slot, m4n_real *logits) {
  const int steps = gather_windows(e, n, slot), all = n * steps, tokens = all * M4N_ABR_TOKENS;
  upload(e, (size_t)all, (size_t)(tokens + 2 * n));
  const m4n_pass pass = {.s = e->s, .B = n, .T = steps * M4N_ABR_TOKENS, .length = e->d_ints + tokens};
  m4n_abr_encode(e->net->abr, &pass, m4n_chain_input(e->net->chain), e->d_rows, e->d_ints, all, false);
  const m4n_real *hidden = m4n_chain_forward(e->net->chain, &pass);
  m4n_gather_fwd(e->s, e->answers + M4N_ABR_ANSWER * e->d, hidden, e->d_ints + tokens + n, n, e->d,
                 M4N_ABR_TOKENS * e->d, 0);
  return answer(e, &pass, e->answers, n, logits);
}

// ---- stream ------------------------------------------------------------------------------------------------------------

// Lanes with a past feed (the last action, return, state); blank ones have no action to feed, so a pass has either.
static int decide_stream(m4n_engine *e, int n, const int32_t *slot, bool fresh, m4n_real *logits) {
  const m4n_abr_shape *shape = &e->options.config.abr;
  const int T = fresh ? M4N_ABR_TOKENS - 1 : M4N_ABR_TOKENS, tokens = n * M4N_ABR_TOKENS, d = e->d;
  int32_t *index = e->ints, *slots = index + tokens, *pos = slots + n, *row_pos = pos + n;
  for (int i = 0; i < n; i++) {
    const lane *l = &e->lane[slot[e->chosen[i]]];
    const int step = l->step - 1;
    for (int t = 0; t < M4N_ABR_TOKENS; t++)
      *index++ = t ? m4n_abr_step_row(shape, step) : fresh ? -1 : m4n_abr_step_row(shape, step - 1);
    e->rows[(size_t)i * (size_t)e->features + M4N_ABR_ACTION] = fresh ? 0 : l->action;
    slots[i] = slot[e->chosen[i]];
    pos[i] = l->seen;
    for (int t = 0; t < T; t++) *row_pos++ = l->seen + t;
  }
  upload(e, (size_t)n, (size_t)(tokens + 2 * n + n * T));
  const int32_t *d_slot = e->d_ints + tokens;
  const m4n_pass pass = {
      .s = e->s, .B = n, .T = T, .slot = d_slot, .pos = d_slot + n, .row_pos = d_slot + 2 * n};
  m4n_real *input = m4n_chain_input(e->net->chain);
  m4n_abr_encode(e->net->abr, &pass, fresh ? e->tokens : input, e->d_rows, e->d_ints, n, true);
  if (fresh) m4n_copy_rows(e->s, input, e->tokens + d, n, T * d, T * d, M4N_ABR_TOKENS * d);
  const m4n_real *hidden = m4n_chain_decode(e->net->chain, &pass);
  // The last of a lane's T tokens is the answer; the head reads at distance 8·d.
  m4n_copy_rows(e->s, e->answers + M4N_ABR_ANSWER * d, hidden + (T - 1) * d, n, d, M4N_ABR_TOKENS * d, T * d);
  for (int i = 0; i < n; i++) e->lane[slots[i]].seen += T;
  return answer(e, &pass, e->answers, n, logits);
}

// Up to a batch of the rows from `*at` on whose state is blank, or is not; returns how many.
static int choose(m4n_engine *e, int *at, int n, const int32_t *slot, const m4n_real *rows, bool fresh) {
  int m = 0;
  for (; *at < n && m < e->options.batch; (*at)++) {
    if ((e->lane[slot[*at]].kept == 1) != fresh) continue;
    memcpy(e->rows + (size_t)m * (size_t)e->features, rows + (size_t)*at * (size_t)e->features,
           (size_t)e->features * sizeof *rows);
    e->chosen[m++] = *at;
  }
  return m;
}

int m4n_engine_decide(m4n_engine *e, int n, const int32_t *slot, const m4n_real *rows, m4n_real *logits) {
  for (int i = 0; i < n; i++) {
    lane *l = &e->lane[slot[i]];
    if (e->options.context == M4N_CONTEXT_RESET && l->kept == e->window) blank(e, slot[i]);
    if (!carries_state(e))
      memcpy(past_of(e, slot[i], l->step), rows + (size_t)i * (size_t)e->features,
             (size_t)e->features * sizeof *rows);
    l->step++;
    if (carries_state(e) || l->kept < e->window) l->kept++;
  }
  if (!carries_state(e)) {
    for (int at = 0; at < n;) {
      int m = 0;
      while (at < n && m < e->options.batch) e->chosen[m++] = at++;
      M4N_TRY(decide_window(e, m, slot, logits));
    }
    return M4N_OK;
  }
  for (int fresh = 0; fresh < 2; fresh++)
    for (int at = 0, m; (m = choose(e, &at, n, slot, rows, fresh)) > 0;)
      M4N_TRY(decide_stream(e, m, slot, fresh, logits));
  return M4N_OK;
}
