/* A video as a chunk-level streaming simulator sees it: the bytes of every chunk at every level.
 *
 * Two forms are read: Pensieve's folder of `video_size_0` … `video_size_N-1` (one chunk a line, bytes; no
 * ladder, no duration) and Sabre's JSON (`segment_duration_ms`, `bitrates_kbps`, `segment_sizes_bits`).
 *
 *     m4n_video video;
 *     M4N_TRY(m4n_video_open(&video, "traces/envivio"));
 *     double bytes = video.size[chunk * video.levels + level];
 *     m4n_video_close(&video);
 */
#ifndef M4N_TRACES_VIDEO_SIZES_H
#define M4N_TRACES_VIDEO_SIZES_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/arena.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { M4N_VIDEO_MAX_LEVELS = 16, M4N_VIDEO_MAX_CHUNKS = 1 << 16, M4N_VIDEO_MAX_BYTES = 64 << 20 };

typedef struct m4n_video {
  int32_t levels, chunks;
  double chunk_s;     /* seconds a chunk plays; 0 where the files do not say (video_size_N) */
  const double *kbps; /* [levels] the nominal ladder, rising; NULL where the files do not say */
  const double *size; /* [chunks][levels] bytes, positive */
  m4n_arena memory;
} m4n_video;

/* A folder of video_size_N (other files in it are ignored) or a Sabre JSON file. EFORMAT names file, line, key
 * and what was expected: all levels 0 … N-1 must be there with equally many chunks. Nothing is kept of a video
 * that fails. */
int m4n_video_open(m4n_video *video, const char *path);
void m4n_video_close(m4n_video *video);

/* The same out of bytes: what the fuzzer calls. `name` is for messages. A Sabre JSON; or one text a level. */
int m4n_video_parse_json(m4n_video *video, const char *name, const void *data, size_t size);
typedef struct m4n_video_text {
  const char *name;
  const void *data;
  size_t size;
} m4n_video_text;
int m4n_video_parse_sizes(m4n_video *video, const m4n_video_text *level, int levels);

/* Writes `folder`/video_size_0 …, each whole or not at all; the folder is made. */
int m4n_video_write(const m4n_video *video, const char *folder);

#ifdef __cplusplus
}
#endif
#endif
