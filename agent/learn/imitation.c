#include "agent/learn/imitation.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"

enum { TASK, LABEL, ON_POLICY, PARTS };

// Where windows come from: recorded ones, or the student's own.
typedef struct origin {
  m4n_played *source;
  int n;
  m4n_windows *windows; // NULL: none yet
} origin;

// A row of the batch for each step of each window; the first array is the address of all, on the host and on the backend.
typedef struct rows {
  m4n_real *task, *soft, *hard; // weights of the three losses
  m4n_real *logp;               // [rows][levels] labels that are distributions
  int32_t *action, *choice;     // −1: none
} rows;

struct m4n_imitation {
  m4n_imitation_options o;
  int w, levels, rows, recorded; // rows of a batch, of them recorded (the last batch's)
  origin recorded_from, played_from;
  m4n_window *window; // [batch]
  rows host, device;
  char *host_memory, *device_memory;
  size_t bytes;
  m4n_real *loss;          // [rows]
  m4n_real *logits;        // [rows][levels] of the last batch, on the host
  bool any_soft, any_hard; // among the labels of all origins
};

// ---- memory --------------------------------------------------------------------------------------------------------------

static void place(const m4n_imitation *im, rows *r, m4n_layout *at) {
  const size_t n = (size_t)im->rows;
  r->task = m4n_place(at, n);
  r->soft = m4n_place(at, n);
  r->hard = m4n_place(at, n);
  r->logp = m4n_place(at, n * (size_t)im->levels);
  r->action = m4n_place_bytes(at, n * sizeof(int32_t));
  r->choice = m4n_place_bytes(at, n * sizeof(int32_t));
}

static int take_memory(m4n_imitation *im) {
  m4n_backend *backend = m4n_stream_backend(im->o.net->stream);
  const size_t n = (size_t)im->rows;
  m4n_layout dry = {0};
  place(im, &im->host, &dry);
  im->bytes = dry.used;
  if (!(im->host_memory = m4n_alloc_host(backend, im->bytes)) ||
      !(im->device_memory = m4n_alloc(backend, im->bytes)) ||
      !(im->loss = m4n_alloc(backend, n * sizeof *im->loss)) ||
      !(im->logits = m4n_alloc_host(backend, n * (size_t)im->levels * sizeof *im->logits)))
    return m4n_context(m4n_last_error()->status, "a batch of %d windows", im->o.batch);
  place(im, &im->host, &(m4n_layout){.base = im->host_memory});
  place(im, &im->device, &(m4n_layout){.base = im->device_memory});
  im->window = malloc((size_t)im->o.batch * sizeof *im->window);
  return im->window ? M4N_OK : m4n_fail(M4N_ENOMEM, "no memory for a batch of %d windows", im->o.batch);
}

// ---- origins -------------------------------------------------------------------------------------------------------------

static int check_labels(const m4n_imitation *im, const m4n_labels *labels) {
  if (labels->about.w && labels->about.w != im->w)
    return m4n_fail(M4N_EARG, "labels of windows of %d steps, and the model's have %d", labels->about.w,
                    im->w);
  return M4N_OK;
}

static int set_origin(m4n_imitation *im, origin *from, const m4n_played *source, int n) {
  m4n_window_source *windows = calloc((size_t)n, sizeof *windows);
  m4n_played *copy = malloc((size_t)n * sizeof *copy);
  int status = windows && copy ? M4N_OK : m4n_fail(M4N_ENOMEM, "no memory for windows");
  for (int i = 0; i < n && !status; i++) {
    const m4n_labels *labels = source[i].labels;
    copy[i] = source[i];
    windows[i] = (m4n_window_source){source[i].pool, labels && labels->about.w ? labels->about.stride : 1};
    if (labels) status = check_labels(im, labels);
  }
  m4n_windows *made = NULL;
  if (!status) status = m4n_windows_open(&made, windows, n, im->w);
  free(windows);
  if (status) {
    free(copy);
    return status;
  }
  m4n_windows_close(from->windows);
  free(from->source);
  *from = (origin){copy, n, made};
  for (int i = 0; i < n; i++)
    if (source[i].labels) *(source[i].labels->about.soft ? &im->any_soft : &im->any_hard) = true;
  return M4N_OK;
}

int m4n_imitation_play(m4n_imitation *im, const m4n_played *played, int n) {
  if (n < 1) return m4n_fail(M4N_EARG, "no rounds to learn from");
  for (int i = 0; i < n; i++)
    if (!played[i].labels) return m4n_fail(M4N_EARG, "what the student played has no labels");
  return set_origin(im, &im->played_from, played, n);
}

int m4n_imitation_open(m4n_imitation **out, const m4n_imitation_options *o) {
  m4n_imitation *im = *out = calloc(1, sizeof *im);
  if (!im) return m4n_fail(M4N_ENOMEM, "no memory for an objective");
  im->o = *o;
  im->w = o->net->options.steps;
  im->levels = o->net->levels;
  im->rows = o->batch * im->w;
  int status = take_memory(im);
  const m4n_played recorded = {o->pool, o->labels};
  if (!status) status = set_origin(im, &im->recorded_from, &recorded, 1);
  if (!status) return M4N_OK;
  m4n_imitation_close(im);
  *out = NULL;
  return status;
}

static void close_origin(origin *from) {
  m4n_windows_close(from->windows);
  free(from->source);
}

void m4n_imitation_close(m4n_imitation *im) {
  if (!im) return;
  m4n_backend *backend = m4n_stream_backend(im->o.net->stream);
  close_origin(&im->recorded_from);
  close_origin(&im->played_from);
  m4n_free_host(backend, im->host_memory);
  m4n_free(backend, im->device_memory);
  m4n_free(backend, im->loss);
  m4n_free_host(backend, im->logits);
  free(im->window);
  free(im);
}

// ---- a batch ---------------------------------------------------------------------------------------------------------------

static int fill_targets(m4n_imitation *im, int b, const m4n_played *source, const m4n_window *window,
                        bool own) {
  const rows *h = &im->host;
  const m4n_labels *labels = source->labels;
  const int64_t step = source->pool->episode[window->episode].first + window->start;
  const int first = b * im->w;
  const double label_weight = own ? im->o.on_policy_weight : im->o.label_weight;
  for (int t = 0; t < im->w; t++) {
    h->task[first + t] = h->soft[first + t] = h->hard[first + t] = 0;
    h->action[first + t] = h->choice[first + t] = -1;
  }
  for (int t = 0; t < window->steps && !own; t++) {
    h->action[first + t] = source->pool->action[step + t];
    h->task[first + t] = (m4n_real)(im->o.task_weight * (double)source->pool->weight[step + t]);
  }
  if (!labels) return M4N_OK;
  if (!labels->about.soft) M4N_TRY(m4n_labels_read_choices(labels, window, h->choice + first));
  if (labels->about.soft)
    M4N_TRY(m4n_labels_read(labels, window, h->logp + (size_t)first * (size_t)im->levels));
  m4n_real *weight = labels->about.soft ? h->soft : h->hard;
  for (int t = 0; t < window->steps; t++) weight[first + t] = (m4n_real)label_weight;
  return M4N_OK;
}

// Losses are means over all steps of the batch.
static void normalise(m4n_imitation *im) {
  int steps = 0;
  for (int b = 0; b < im->o.batch; b++) steps += im->window[b].steps;
  const m4n_real factor = (m4n_real)(1.0 / steps);
  for (int i = 0; i < im->rows; i++)
    im->host.task[i] *= factor, im->host.soft[i] *= factor, im->host.hard[i] *= factor;
}

static int make_batch(void *self, int64_t step) {
  m4n_imitation *im = self;
  m4n_rng rng = m4n_rng_make(im->o.seed, (uint64_t)step, M4N_RNG_DATA);
  const int own = im->played_from.windows ? (int)lround(im->o.on_policy_share * im->o.batch) : 0;
  const int recorded = im->o.batch - own;
  m4n_windows_draw(im->recorded_from.windows, &rng, recorded, im->window);
  if (own) m4n_windows_draw(im->played_from.windows, &rng, own, im->window + recorded);
  im->recorded = recorded * im->w;
  for (int b = 0; b < im->o.batch; b++) {
    const origin *from = b < recorded ? &im->recorded_from : &im->played_from;
    const m4n_played *source = &from->source[im->window[b].source];
    m4n_window_fill(im->o.net, b, source->pool, &im->window[b]);
    M4N_TRY(fill_targets(im, b, source, &im->window[b], b >= recorded));
  }
  normalise(im);
  m4n_copy_in(im->o.net->stream, im->device_memory, im->host_memory, im->bytes);
  return M4N_OK;
}

// ---- the loss ----------------------------------------------------------------------------------------------------------------

// Adds the losses of the recorded rows to one part, those of the student's own to another.
static void add_parts(m4n_imitation *im, m4n_real *parts) {
  m4n_stream *s = im->o.net->stream;
  m4n_sum(s, parts + LABEL, im->loss, im->recorded, 1, 1);
  if (im->recorded < im->rows)
    m4n_sum(s, parts + ON_POLICY, im->loss + im->recorded, im->rows - im->recorded, 1, 1);
}

static void loss(void *self, m4n_real *parts) {
  m4n_imitation *im = self;
  m4n_net *net = im->o.net;
  m4n_stream *s = net->stream;
  const rows *d = &im->device;
  const int n = im->rows, levels = im->levels;
  const m4n_kl kl = {n, levels, im->o.divergence, (m4n_real)im->o.temperature, (m4n_real)im->o.jsd};
  m4n_net_forward(net, im->o.batch, im->w, true,
                  NULL); // padding is behind what counts: causal models do not see it
  m4n_fill(s, parts, PARTS, 0);
  m4n_xent_fwd(s, im->loss, net->logits, d->action, NULL, d->task, n, levels);
  m4n_sum(s, parts + TASK, im->loss, n, 1, 0);
  m4n_xent_bwd(s, net->d_logits, net->logits, d->action, NULL, d->task, n, levels, 0);
  if (im->any_soft) {
    m4n_kl_fwd(s, im->loss, net->logits, d->logp, NULL, d->soft, &kl);
    add_parts(im, parts);
    m4n_kl_bwd(s, net->d_logits, net->logits, d->logp, NULL, d->soft, &kl, 1);
  }
  if (im->any_hard) {
    m4n_xent_fwd(s, im->loss, net->logits, d->choice, NULL, d->hard, n, levels);
    add_parts(im, parts);
    m4n_xent_bwd(s, net->d_logits, net->logits, d->choice, NULL, d->hard, n, levels, 1);
  }
  m4n_copy_out(s, im->logits, net->logits, (size_t)n * (size_t)levels * sizeof *im->logits);
}

static int likeliest(const m4n_real *z, int levels) {
  int best = 0;
  for (int k = 1; k < levels; k++)
    if (z[k] > z[best]) best = k;
  return best;
}

// Agreement with the labels where there are some, else with what was done.
static void look(void *self, m4n_agreement *agreement) {
  const m4n_imitation *im = self;
  const rows *h = &im->host;
  for (int i = 0; i < im->rows; i++) {
    const size_t at = (size_t)i * (size_t)im->levels;
    const int target = h->soft[i] > 0      ? likeliest(h->logp + at, im->levels)
                       : h->choice[i] >= 0 ? h->choice[i]
                                           : h->action[i];
    if (target < 0) continue;
    agreement->answers++;
    agreement->agreed += likeliest(im->logits + at, im->levels) == target;
  }
}

m4n_objective m4n_imitation_objective(m4n_imitation *im) {
  return (m4n_objective){.self = im,
                         .parts = PARTS,
                         .part = {"task", "label", "on_policy"},
                         .tokens = im->rows * M4N_ABR_TOKENS,
                         .batch = make_batch,
                         .loss = loss,
                         .look = look};
}
