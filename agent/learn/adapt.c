// adapt: a teacher by return-conditioned cross-entropy over windows of recorded episodes (algorithms.md §4.4, §7.2).
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/abr_rows.h"
#include "agent/learn/fitting.h"
#include "agent/learn/schedule.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

typedef struct adapting {
  const m4n_adapt_options *o;
  m4n_workshop workshop;
  m4n_trajectories *pool;
  m4n_imitation *imitation;
  m4n_identity identity;
  m4n_fitting fitting;
  uint64_t base; // hash of a base of ours
} adapting;

// A base of ours is a whole model that goes on learning; a Hugging Face folder is a backbone alone.
static bool base_is_ours(const adapting *a) {
  return a->o->base && !m4n_is_dir(a->o->base);
}

static int choose_shape(adapting *a, m4n_config *config) {
  const m4n_adapt_options *o = a->o;
  m4n_spec spec;
  M4N_TRY(m4n_trajectories_spec(&spec, o->events[0]));
  if (!o->preset == !o->base)
    return m4n_fail(M4N_EARG, "adapt: expected either a preset or a base to begin from");
  if (o->preset) M4N_TRY(m4n_config_preset(config, o->preset));
  if (o->preset && o->attention_layers) {
    config->backbone.attention_layers = o->attention_layers;
    config->backbone.mamba_layers = 0;
  }
  if (o->base) M4N_TRY(m4n_config_read(config, o->base));
  if (!config->abr.levels) { // the usual encoder on somebody else's backbone
    m4n_config usual;
    M4N_TRY(m4n_config_preset(&usual, "mini"));
    config->abr = usual.abr;
  }
  if (!base_is_ours(a)) M4N_TRY(m4n_abr_rows_shape(&config->abr, &spec));
  if (o->window) config->abr.window = o->window;
  return M4N_OK;
}

static int take_lora(const adapting *a, m4n_lora *lora) {
  const m4n_adapt_options *o = a->o;
  *lora = (m4n_lora){.rank = o->lora.rank, .alpha = o->lora.alpha, .dropout = o->lora.dropout};
  if (!lora->rank) return M4N_OK;
  if (!o->base) return m4n_fail(M4N_EARG, "LoRA on random weights is no teacher: expected a base");
  if (o->lora.n_targets < 1 || o->lora.n_targets > M4N_MAX_TARGETS)
    return m4n_fail(M4N_EARG, "LoRA: %d targets, expected 1 … %d", o->lora.n_targets, M4N_MAX_TARGETS);
  for (int i = 0; i < o->lora.n_targets; i++) {
    if (strlen(o->lora.targets[i]) >= sizeof lora->target[0])
      return m4n_fail(M4N_EARG, "LoRA target '%.40s' is too long", o->lora.targets[i]);
    memcpy(lora->target[lora->targets++], o->lora.targets[i], strlen(o->lora.targets[i]) + 1);
  }
  return M4N_OK;
}

static int open_net(adapting *a) {
  const m4n_adapt_options *o = a->o;
  m4n_checkpoint *c = &a->fitting.checkpoint;
  m4n_net_options net = {.config = c->config, .sequences = o->fit.batch, .train = true};
  M4N_TRY(take_lora(a, &net.lora));
  if (net.lora.rank) net.format = M4N_W_BF16; // frozen
  M4N_TRY(m4n_net_open(&a->fitting.net, a->workshop.stream, &net));
  m4n_net *model = a->fitting.net;
  // A backbone that is read anyway is not drawn first.
  M4N_TRY(m4n_params_start(model->params, o->base ? M4N_SET_ADAPTER | M4N_SET_TASK : M4N_ALL_SETS,
                           o->stage.seed));
  if (!o->base) return M4N_OK;
  if (!base_is_ours(a)) return m4n_net_load_backbone(model, o->base, NULL);
  m4n_checkpoint base;
  M4N_TRY(m4n_checkpoint_read(&base, o->base));
  if (base.base[0])
    return m4n_fail_at(M4N_EUNSUPPORTED, o->base, 0, NULL, "is an adapter itself: expected a whole model");
  M4N_TRY(m4n_checkpoint_hash(&base, &a->base));
  M4N_TRY(m4n_checkpoint_load(&base, model));
  return M4N_OK;
}

static int describe(adapting *a) {
  const m4n_adapt_options *o = a->o;
  M4N_TRY(m4n_identity_open(&a->identity));
  FILE *to = a->identity.stream;
  char *config = m4n_config_text(&a->fitting.checkpoint.config);
  fprintf(to, "stage=adapt\nseed=%" PRIu64 "\npool=%016" PRIx64 "\nmodel=%s\n", o->stage.seed, a->pool->hash,
          config ? config : "");
  free(config);
  fprintf(to, "base=%s %016" PRIx64 "\nlora=%d %.17g %.17g", o->base && !base_is_ours(a) ? o->base : "",
          a->base, o->lora.rank, o->lora.alpha, o->lora.dropout);
  for (int i = 0; i < o->lora.n_targets; i++) fprintf(to, " %s", o->lora.targets[i]);
  fprintf(to, "\nweighting=%d\n", o->weighting);
  m4n_identity_fit(&a->identity, &o->fit);
  return m4n_identity_done(&a->identity);
}

// "adapt: cross-entropy, LoRA 8 on teacher.safetensors"
static void name_result(adapting *a) {
  const m4n_adapt_options *o = a->o;
  char lora[32] = "";
  if (o->lora.rank) snprintf(lora, sizeof lora, ", LoRA %d", o->lora.rank);
  snprintf(a->fitting.checkpoint.about, M4N_ABOUT, "adapt: cross-entropy%s%s%s%.80s",
           o->weighting == M4N_WEIGHT_ADVANTAGE ? ", weighted by advantage" : "", lora,
           !o->base       ? ""
           : o->lora.rank ? " on "
                          : ", begun with ",
           o->base ? m4n_path_base(o->base) : "");
}

static int run(adapting *a) {
  const m4n_adapt_options *o = a->o;
  m4n_fitting *f = &a->fitting;
  m4n_checkpoint *c = &f->checkpoint;
  *f = (m4n_fitting){.name = "adapt", .workshop = &a->workshop, .fit = &o->fit};
  if (o->n_events < 1) return m4n_fail(M4N_EARG, "adapt: there are no event logs to learn from");
  M4N_TRY(choose_shape(a, &c->config));
  M4N_TRY(m4n_trajectories_open(&a->pool, &(m4n_trajectories_options){.events = o->events,
                                                                      .n_events = o->n_events,
                                                                      .shape = &c->config.abr,
                                                                      .rtg_scale = o->rtg_scale}));
  if (o->weighting == M4N_WEIGHT_ADVANTAGE) M4N_TRY(m4n_trajectories_weigh(a->pool, 1));
  f->spec = &a->pool->spec;
  c->condition = a->pool->condition;
  name_result(a);
  if (o->base) snprintf(c->base, sizeof c->base, "%s", o->base);
  M4N_TRY(open_net(a));
  M4N_TRY(describe(a));
  m4n_log(M4N_LOG_INFO,
          "adapt: %d episodes, %lld decisions; a model of %lld parameters, %lld of them trained", a->pool->n,
          (long long)a->pool->steps, (long long)m4n_params_count(f->net->params, M4N_ALL_SETS, false),
          (long long)m4n_params_count(f->net->params, M4N_ALL_SETS, true));
  M4N_TRY(m4n_imitation_open(&a->imitation, &(m4n_imitation_options){.net = f->net,
                                                                     .batch = o->fit.batch,
                                                                     .seed = o->stage.seed,
                                                                     .pool = a->pool,
                                                                     .task_weight = 1,
                                                                     .temperature = 1}));
  f->objective = m4n_imitation_objective(a->imitation);
  f->identity = a->identity.text;
  return m4n_fitting_run(f, o->out);
}

int m4n_adapt(const m4n_adapt_options *options) {
  if (m4n_stage_done(&options->stage, options->out)) return M4N_OK;
  M4N_TRY(m4n_fit_check(&options->fit));
  adapting a = {.o = options};
  int status = m4n_workshop_open(&a.workshop, &options->stage);
  if (!status) status = run(&a);
  m4n_imitation_close(a.imitation);
  m4n_net_close(a.fitting.net);
  m4n_trajectories_close(a.pool);
  m4n_identity_close(&a.identity);
  if (a.workshop.backend) m4n_workshop_close(&a.workshop);
  return status;
}
