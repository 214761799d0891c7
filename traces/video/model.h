/* Synthetic videos: log-normal chunk sizes that vary together.
 *
 * With x a chunk's complexity, which all levels share, and e a level's own part, both Gaussian AR(1) over the
 * chunks with coefficient `chunk`,
 *
 *     bytes[c][l] = kbps[l] · 1000 / 8 · chunk_s · exp(σ (√shared · x_c + √(1−shared) · e_cl) − σ²/2)
 *
 * so that a level's mean rate is its nominal one, σ its logarithm's deviation, `shared` the correlation of two
 * levels and `chunk` that of two neighbouring chunks.
 *
 *     m4n_video_model model;
 *     M4N_TRY(m4n_video_model_open(&model, "pensieve"));           // a name, or a JSON file's path
 *     M4N_TRY(m4n_video_generate(&video, &model, seed, 0));
 */
#ifndef M4N_TRACES_VIDEO_MODEL_H
#define M4N_TRACES_VIDEO_MODEL_H

#include <stdint.h>

#include "traces/video/sizes.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_video_model {
  char name[64];
  double videos; /* how many it was fitted on */
  double levels, chunks, chunk_s;
  double kbps[M4N_VIDEO_MAX_LEVELS]; /* [levels], then 0 */
  double sigma, shared, chunk;
} m4n_video_model;

/* Built in or a file, as m4n_trace_model_open. */
int m4n_video_model_open(m4n_video_model *model, const char *name_or_path);
int m4n_video_model_parse(m4n_video_model *model, const char *name, const void *data, size_t size);
int m4n_video_model_write(const m4n_video_model *model, const char *path);
const char *m4n_video_model_builtin(int index); /* NULL behind the last */

/* Fits σ, `shared` and `chunk` as means over the videos; ladder, chunk duration and number are those of the
 * field's usual video (300 … 4300 kbit/s, 4 s, 49), to be overwritten by who wants others. EFORMAT for videos
 * of fewer than three chunks or two levels; EARG for a bad name. */
int m4n_video_model_fit(m4n_video_model *model, const m4n_video *video, int count, const char *name);

/* Video `index` of the set `seed`: whole bytes, the same numbers whoever asks. Close with m4n_video_close. */
int m4n_video_generate(m4n_video *video, const m4n_video_model *model, uint64_t seed, uint64_t index);

#ifdef __cplusplus
}
#endif
#endif
