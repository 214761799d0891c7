/* Weight reuse (CWR, algorithms.md §6): a student that begins with its teacher's weights, cut to its own size.
 *
 * Attention and a Mamba mixer of variant A have the same four matrices: q → C, k → B, v → x, o → W_o; feed-forward layers,
 * norms, encoder and head go along. What a mixer has beside (conv, z, Δ, A, D) starts new and is marked `fresh`.
 *
 *     m4n_teacher teacher;
 *     M4N_TRY(m4n_teacher_open(&teacher, "teacher.safetensors", NULL, NULL));
 *     m4n_reuse_options o = m4n_reuse_usual(M4N_REUSE_HEAD);
 *     m4n_reuse_shape(&config, &teacher.config, &o);             // the student's heads become the teacher's
 *     … m4n_net_open(&student, stream, {.config = config, .train = true}) …
 *     M4N_TRY(m4n_net_start(student, seed));                     // for all that is new
 *     M4N_TRY(m4n_reuse(student, &teacher, &o, &report));
 *
 * How a matrix is cut:
 *   slice     the upper left block of its best approximation of rank `rank`: the paper, literally (§6.2)
 *   head      head by head: the best maps of rank N for scores (W_qᵀW_k) and values (W_o·W_v) in Mamba layers; in
 *             attention layers the rotary pairs that turn slowest and the strongest value channels (§6.4, §6.7); the
 *             stream is sliced, feed-forward units are the strongest
 *   pca       as head, but the stream is projected on the directions that a teacher's stream really uses (§6.5)
 *   spectrum  as head, then every matrix is turned by random rotations: same singular values, no knowledge (§6.9)
 *   random    nothing is reused
 */
#ifndef M4N_MODEL_REUSE_H
#define M4N_MODEL_REUSE_H

#include "agent/model/lora.h"
#include "agent/model/net.h"
#include "kernels/base/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A teacher as files; nothing of it is loaded before it is read. */
typedef struct m4n_teacher {
  m4n_config config;
  m4n_safetensors *file, *base; /* ours with encoder and head; a backbone that lies elsewhere, or NULL */
  m4n_folded backbone;          /* the adapter is folded in */
} m4n_teacher;

/* path: a file of ours. base: where the backbone lies if it is not in the file (a Hugging Face folder or a file of ours),
 * or NULL. adapter: a PEFT folder, or NULL. */
int m4n_teacher_open(m4n_teacher *teacher, const char *path, const char *base, const char *adapter);
void m4n_teacher_close(m4n_teacher *teacher); /* also a zeroed one */

/* What a teacher's stream looks like, for pca: mean of x̂·x̂ᵀ of what each norm sees, x̂ = x/rms(x). Made by the learner:
 *
 *     M4N_TRY(m4n_moments_open(&moments, net));            // a teacher opened with .taps = true
 *     for each batch: m4n_net_forward(net, …); m4n_moments_add(moments);
 */
typedef struct m4n_moments m4n_moments;
int m4n_moments_open(m4n_moments **moments, m4n_net *teacher);
void m4n_moments_add(m4n_moments *moments);   /* the net's last forward, all its tokens */
void m4n_moments_close(m4n_moments *moments); /* NULL is fine */
int m4n_moments_norms(const m4n_moments *moments);
/* c[d][d] of one norm: 2·layer before its mixer, 2·layer + 1 before its feed-forward layer, 2·layers the last. */
int m4n_moments_read(const m4n_moments *moments, int norm, double *c);

enum m4n_reuse_mode { M4N_REUSE_SLICE, M4N_REUSE_HEAD, M4N_REUSE_PCA, M4N_REUSE_SPECTRUM, M4N_REUSE_RANDOM };
enum m4n_layer_map { M4N_MAP_EVEN, M4N_MAP_FIRST, M4N_MAP_LAST, M4N_MAP_MIDDLE };

typedef struct m4n_reuse_options {
  int mode;       /* enum m4n_reuse_mode */
  int rank;       /* slice: of the approximation */
  bool gain;      /* cut matrices get the output size of the whole ones (§6.3) */
  int map;        /* enum m4n_layer_map: which teacher layer a student layer is made of (§6.6) */
  bool skip_gain; /* what writes the stream is scaled by teacher layers/student layers, for those left out */
  bool open_gate; /* silu(z) starts near 1 (§5.2); needs the shape's gate_bias */
  bool identity_conv; /* the conv starts as the newest input alone */
  double D;           /* start of the mixer's D */
  uint64_t seed;
  m4n_pool *pool;             /* may be NULL */
  const m4n_moments *moments; /* pca */
} m4n_reuse_options;

m4n_reuse_options
m4n_reuse_usual(int mode); /* rank 512, gain, even map, open gate, identity conv, D = 1, seed 1 */
int m4n_reuse_mode_of(const char *name); /* "slice", …; −1 for another name */

typedef struct m4n_reuse_report {
  int64_t reused, fresh; /* parameters */
  double energy;         /* pca: share of the stream's mean square in the directions that were kept; else 1 */
} m4n_reuse_report;

/* The teacher layer that student layer `layer` of `layers` is made of. */
int m4n_reuse_layer(int map, int layer, int layers, int teacher_layers);

/* Fits a student's shape for reuse: as many heads as the teacher's where they fit its width, the frequencies of the
 * rotary pairs that are kept, a bias for the gate. */
void m4n_reuse_shape(m4n_config *student, const m4n_config *teacher, const m4n_reuse_options *options);

/* Marks what reuse leaves new (mixers' conv, z, Δ, A and D) and what sits beside the backbone (encoder, head) as `fresh`:
 * the optimiser may give them a larger rate. Done by m4n_reuse; to be done again where the student is read from a file. */
void m4n_reuse_mark(m4n_net *student);

/* Overwrites the student's parameters. EARG where the shapes cannot be joined, EFORMAT and ENOTFOUND of the files. */
int m4n_reuse(m4n_net *student, const m4n_teacher *teacher, const m4n_reuse_options *options,
              m4n_reuse_report *report);

#ifdef __cplusplus
}
#endif
#endif
