#include "agent/model/info.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "agent/model/abr.h"
#include "agent/model/chain.h"
#include "agent/model/config.h"
#include "agent/model/optimiser.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

enum { SEQUENCES = 8, TOKENS = 160 }; // what memory for training is told of

typedef struct info {
  const char *what;
  bool preset;
  m4n_safetensors *file; // NULL for a preset
  bool known;            // config is meaningful
  m4n_config config;
  // Declared, without memory for weights.
  m4n_backend *backend;
  m4n_stream *stream;
  m4n_arena arena;
  m4n_params *params;
  m4n_chain *chain;
  m4n_abr *abr;
} info;

// ---- finding out -----------------------------------------------------------------------------------------------------------

static bool is_preset(const char *name) {
  for (int i = 0; m4n_config_preset_name(i); i++)
    if (strcmp(name, m4n_config_preset_name(i)) == 0) return true;
  return false;
}

static int look(info *in) {
  in->preset = is_preset(in->what) && !m4n_exists(in->what);
  if (in->preset) {
    in->known = true;
    return m4n_config_preset(&in->config, in->what);
  }
  if (!m4n_exists(in->what)) {
    char names[128] = "";
    for (int i = 0; m4n_config_preset_name(i); i++)
      snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? ", " : "",
               m4n_config_preset_name(i));
    return m4n_fail_at(M4N_ENOTFOUND, in->what, 0, NULL, "no such file, and no preset (%s)", names);
  }
  M4N_TRY(m4n_safetensors_open(&in->file, in->what));
  in->known = m4n_is_dir(in->what) || m4n_safetensors_metadata(in->file, M4N_CONFIG_KEY);
  return in->known ? m4n_config_read(&in->config, in->what) : M4N_OK;
}

static int declare(info *in) {
  M4N_TRY(m4n_backend_open(&in->backend, "cpu", NULL));
  M4N_TRY(m4n_stream_open(&in->stream, in->backend));
  M4N_TRY(m4n_params_open(&in->params, in->stream));
  m4n_builder at = {.params = in->params,
                    .arena = &in->arena,
                    .prefix = "",
                    .set = M4N_SET_BACKBONE,
                    .max_B = SEQUENCES,
                    .max_T = TOKENS,
                    .train = true,
                    .trainable = true};
  M4N_TRY(m4n_chain_declare(&in->chain, &at, &in->config.backbone));
  if (!in->config.abr.levels) return M4N_OK;
  return m4n_abr_declare(&in->abr, &at, &in->config.abr, in->config.backbone.d,
                         SEQUENCES * TOKENS / M4N_ABR_TOKENS);
}

// A model whose encoder and head are missing is a backbone: Hugging Face's are.
static int check_tensors(info *in) {
  const char *prefix =
      in->config.backbone.hf_mamba && m4n_safetensors_find(in->file, "backbone.norm_f.weight") ? "backbone."
                                                                                               : "";
  for (int i = 0; i < in->params->n_parts; i++) {
    const m4n_part *part = &in->params->part[i];
    const m4n_tensor *t;
    char name[512];
    snprintf(name, sizeof name, "%s%s", prefix, part->name);
    M4N_TRY(m4n_safetensors_need(&t, in->file, name, part->rank, part->shape));
  }
  return M4N_OK;
}

static void close_info(info *in) {
  m4n_params_close(in->params);
  m4n_arena_close(&in->arena);
  m4n_stream_close(in->stream);
  m4n_backend_close(in->backend);
  m4n_safetensors_close(in->file);
}

// ---- figures -----------------------------------------------------------------------------------------------------------------

/* Bytes of all weights where the backbone's products have `each` bytes an element. */
static double bytes_of(const info *in, double each) {
  double n = 0;
  for (int i = 0; i < in->params->n_weights; i++) {
    const m4n_weight *w = in->params->weight[i];
    const double elements = (double)w->rows * w->cols;
    const bool product = w->set == M4N_SET_BACKBONE && w->decay;
    n += elements * (product ? each : sizeof(float));
    if (product && each == 1) n += 4.0 * w->rows; // the scale of each row
  }
  return n;
}

static int64_t trainable(const info *in) {
  return m4n_params_count(in->params, M4N_ALL_SETS, false);
}

typedef struct figures {
  int64_t backbone, task;
  double float32, bf16, int8;
  double gradients, optimiser, saved, recomputed, scratch, lane;
} figures;

static figures figures_of(const info *in) {
  const m4n_chain_plan_options train = {.train = true}, again = {.train = true, .recompute = true},
                               lane = {.lanes = {1, TOKENS, M4N_ABR_TOKENS}};
  const m4n_chain_bytes all = m4n_chain_measure(in->chain, &train),
                        less = m4n_chain_measure(in->chain, &again);
  const double encoder = in->abr ? (double)m4n_abr_bytes(in->abr, true) : 0;
  return (figures){.backbone = m4n_params_count(in->params, M4N_SET_BACKBONE, false),
                   .task = m4n_params_count(in->params, M4N_SET_TASK, false),
                   .float32 = bytes_of(in, 4),
                   .bf16 = bytes_of(in, 2),
                   .int8 = bytes_of(in, 1),
                   .gradients = 4.0 * (double)trainable(in),
                   .optimiser = 8.0 * (double)trainable(in),
                   .saved = (double)all.saved + encoder,
                   .recomputed = (double)less.saved + encoder,
                   .scratch = (double)all.scratch,
                   .lane = (double)m4n_chain_measure(in->chain, &lane).state};
}

// ---- for people --------------------------------------------------------------------------------------------------------------

// 41025024 as "41,025,024".
static const char *grouped(char *text, size_t size, int64_t n) {
  char digits[32];
  snprintf(digits, sizeof digits, "%" PRId64, n);
  const size_t length = strlen(digits);
  size_t at = 0;
  for (size_t i = 0; i < length && at + 2 < size; i++) {
    if (i && (length - i) % 3 == 0) text[at++] = ',';
    text[at++] = digits[i];
  }
  text[at] = 0;
  return text;
}

static void print_config(FILE *out, const m4n_config *c) {
  const m4n_backbone *b = &c->backbone;
  fprintf(out, "backbone    width %d, %d layers: %d Mamba, %d attention\n", b->d,
          b->mamba_layers + b->attention_layers, b->mamba_layers, b->attention_layers);
  if (b->mamba_layers)
    fprintf(out, "  Mamba     %s, %d channels, %d states, Δ of rank %d, conv of %d%s%s\n",
            b->mixer == M4N_MIXER_MAMBA ? "shaped like attention" : "version 1", b->inner, b->state, b->rank,
            b->conv, b->gate_bias ? ", gate with bias" : "",
            b->ffn && !b->mamba_ffn ? ", no feed-forward part" : "");
  if (b->attention_layers) {
    fprintf(out, "  attention %d heads of %d, %d key heads%s, rotary ", b->heads, b->head_dim, b->kv_heads,
            b->qkv_bias ? ", q k v with biases" : "");
    if (b->frequencies)
      fprintf(out, "frequencies of its own\n");
    else
      fprintf(out, "base %g%s\n", b->rope_theta, b->interleaved ? ", interleaved" : "");
  }
  if (b->ffn) fprintf(out, "  ffn       SwiGLU of %d\n", b->ffn);
  fprintf(out, "  norm      eps %g\n", b->eps);
  const m4n_abr_shape *a = &c->abr;
  if (a->levels)
    fprintf(out,
            "abr         %d levels, history of %d, sizes of the next %d, embedding %d, window of %d steps, "
            "episodes of %d\n",
            a->levels, a->history, a->lookahead, a->embed, a->window, a->max_steps);
}

static void print_figures(FILE *out, const figures *f) {
  char all[40], backbone[40], task[40];
  fprintf(out, "parameters  %s: backbone %s, encoder and head %s\n",
          grouped(all, sizeof all, f->backbone + f->task), grouped(backbone, sizeof backbone, f->backbone),
          grouped(task, sizeof task, f->task));
  fprintf(out, "weights     %.1f MB float32, %.1f MB bf16, %.1f MB int8\n", 1e-6 * f->float32, 1e-6 * f->bf16,
          1e-6 * f->int8);
  fprintf(out,
          "training    %d sequences of %d tokens: weights and gradients %.1f MB, optimiser %.1f MB, "
          "activations %.1f MB "
          "(recomputed %.1f MB), scratch %.1f MB\n",
          SEQUENCES, TOKENS, 2e-6 * f->gradients, 1e-6 * f->optimiser, 1e-6 * f->saved, 1e-6 * f->recomputed,
          1e-6 * f->scratch);
  fprintf(out, "a lane      %.1f kB of state, attention over %d tokens\n", 1e-3 * f->lane, TOKENS);
}

// A stranger's name, without what would steer a terminal.
static void print_name(FILE *out, const char *name) {
  for (; *name; name++) fputc((unsigned char)*name < 32 || *name == 127 ? '?' : *name, out);
  fputc('\n', out);
}

static void print_tensors(FILE *out, const info *in) {
  char shape[128];
  if (in->file)
    for (int i = 0; i < m4n_safetensors_count(in->file); i++) {
      const m4n_tensor *t = m4n_safetensors_at(in->file, i);
      fprintf(out, "  %-8.8s %-22s %12zu  ", t->type == M4N_TENSOR_OTHER ? "other" : t->type_name,
              m4n_shape_text(shape, sizeof shape, t->rank, t->shape), t->bytes);
      print_name(out, t->name);
    }
  else
    for (int i = 0; i < in->params->n_parts; i++) {
      const m4n_part *p = &in->params->part[i];
      fprintf(out, "  %-8s %-22s %12" PRId64 "  %s\n", "F32",
              m4n_shape_text(shape, sizeof shape, p->rank, p->shape), 4 * p->count, p->name);
    }
}

static void print(FILE *out, const info *in, bool tensors) {
  fprintf(out, "%s %s\n", in->preset ? "preset" : "file", in->what);
  if (in->known) {
    const figures f = figures_of(in);
    print_config(out, &in->config);
    print_figures(out, &f);
  }
  if (in->file) {
    double bytes = 0;
    for (int i = 0; i < m4n_safetensors_count(in->file); i++)
      bytes += (double)m4n_safetensors_at(in->file, i)->bytes;
    fprintf(out, "stored      %d tensors, %.1f MB\n", m4n_safetensors_count(in->file), 1e-6 * bytes);
  }
  if (tensors || !in->known) print_tensors(out, in);
}

// ---- for programs --------------------------------------------------------------------------------------------------------------

static json_t *shape_json(int rank, const int64_t *shape) {
  json_t *list = json_array();
  for (int i = 0; i < rank; i++) json_array_append_new(list, json_integer(shape[i]));
  return list;
}

static json_t *tensors_json(const info *in) {
  json_t *list = json_array();
  if (in->file)
    for (int i = 0; i < m4n_safetensors_count(in->file); i++) {
      const m4n_tensor *t = m4n_safetensors_at(in->file, i);
      json_array_append_new(list,
                            json_pack("{s:s, s:s, s:o, s:I}", "name", t->name, "type", t->type_name, "shape",
                                      shape_json(t->rank, t->shape), "bytes", (json_int_t)t->bytes));
    }
  else
    for (int i = 0; i < in->params->n_parts; i++) {
      const m4n_part *p = &in->params->part[i];
      json_array_append_new(list,
                            json_pack("{s:s, s:s, s:o, s:I}", "name", p->name, "type", "F32", "shape",
                                      shape_json(p->rank, p->shape), "bytes", (json_int_t)(4 * p->count)));
    }
  return list;
}

static int print_json(FILE *out, const info *in) {
  json_t *root = json_pack("{s:s, s:b}", "name", in->what, "preset", in->preset);
  if (in->known) {
    const figures f = figures_of(in);
    char *text = m4n_config_text(&in->config);
    json_t *config = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    json_object_set_new(root, "config", config);
    json_object_set_new(
        root, "parameters",
        json_pack("{s:I, s:I}", "backbone", (json_int_t)f.backbone, "task", (json_int_t)f.task));
    json_object_set_new(root, "bytes",
                        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "float32", f.float32, "bf16",
                                  f.bf16, "int8", f.int8, "gradients", f.gradients, "optimiser", f.optimiser,
                                  "activations", f.saved, "scratch", f.scratch, "lane", f.lane));
  }
  json_object_set_new(root, "tensors", tensors_json(in));
  char *text = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
  json_decref(root);
  if (!text) return m4n_fail(M4N_ENOMEM, "no memory for the description of %s", in->what);
  fprintf(out, "%s\n", text);
  free(text);
  return M4N_OK;
}

int m4n_model_info(FILE *out, const char *what, bool json, bool tensors) {
  info in = {.what = what};
  int status = look(&in);
  if (!status && in.known) status = declare(&in);
  if (!status && in.known && in.file) status = check_tensors(&in);
  if (!status && json)
    status = print_json(out, &in);
  else if (!status)
    print(out, &in, tensors);
  close_info(&in);
  return status;
}
