/* Labels: somebody's answers to what is in event logs, in one compact file, so that a student learns without its teacher
 * in memory.
 *
 * A teacher's distribution depends on all that it sees: on the window as a whole. So its labels are those of windows
 * (windows.h: number i of an episode, all positions), and hold for exactly these. A policy that looks at one row, and
 * the simulator's oracle, label steps, whatever the window. Distributions are kept as log-probabilities in 16 bits; a
 * labeller that only chooses leaves choices.
 *
 * The file is a .safetensors: "logp" [windows][w][levels], "logp" [steps][levels], or "choice" [steps] (−1: none), for the
 * episodes in the pool's order; what it is, and hashes of pool, labeller and content, in its metadata.
 *
 *     m4n_labels *labels;
 *     M4N_TRY(m4n_labels_open(&labels, "labels.safetensors"));
 *     … open the pool with labels->about.condition …
 *     M4N_TRY(m4n_labels_fit(labels, pool));
 *     M4N_TRY(m4n_labels_read(labels, &window, logp));                    // [window.steps][levels]
 */
#ifndef M4N_LEARN_LABELS_H
#define M4N_LEARN_LABELS_H

#include "agent/learn/stages.h"
#include "agent/learn/windows.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_labels_about {
  int labeller;  /* enum m4n_labeller */
  char by[128];  /* who: a checkpoint's file name, a policy's name; "" for the oracle */
  bool soft;     /* distributions; else choices */
  int w, stride; /* of a teacher's windows; w 0: labels of steps */
  int levels;
  uint64_t pool, teacher;  /* m4n_trajectories.hash; m4n_checkpoint_hash or 0 */
  uint64_t content;        /* of the labels themselves; set by m4n_labels_open */
  m4n_condition condition; /* of the pool that was labelled: the teacher's, where there is one */
} m4n_labels_about;

/* "teacher", "expert", "oracle": what outputs call a labeller. */
const char *m4n_labeller_name(int labeller);

typedef struct m4n_labels {
  m4n_labels_about about;
  struct m4n_labels_private *private_;
} m4n_labels;

/* Maps the file. ENOTFOUND; EFORMAT for what is no label file, or whose content is not the one that was written. */
int m4n_labels_open(m4n_labels **labels, const char *path);
void m4n_labels_close(m4n_labels *labels); /* NULL is fine */
/* The pool must be the one that was labelled, else EFORMAT. */
int m4n_labels_fit(m4n_labels *labels, const m4n_trajectories *pool);

/* The labels of a window that has one. soft: logp [steps][levels]. Does not allocate. EFORMAT. */
int m4n_labels_read(const m4n_labels *labels, const m4n_window *window, m4n_real *logp);
/* Else: choice [steps], −1 where there is none. */
int m4n_labels_read_choices(const m4n_labels *labels, const m4n_window *window, int32_t *choice);

/* How many values the file of a pool holds, and how many belong to episode e and those before it. */
int64_t m4n_labels_values(const m4n_labels_about *about, const m4n_trajectories *pool);

/* Writes a label file, whole or not at all, from values in 16 bits (agent/model/half.h) in the order that is said above. */
int m4n_labels_write(const char *path, const m4n_labels_about *about, const uint16_t *values, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
