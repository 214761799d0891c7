/* A video as a chunk-level streaming simulator sees it: the bytes of every chunk at every level.
 *
 *     m4n_video video;
 *     M4N_TRY(m4n_video_open(&video, "traces/envivio"));       // folder of video_size_N, or a Sabre JSON
 * file double bytes = video.size[chunk * video.levels + level]; m4n_video_close(&video);
 */
#ifndef M4N_TRACES_VIDEO_SIZES_H
#define M4N_TRACES_VIDEO_SIZES_H

#include <stdint.h>

#include "kernels/base/arena.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { M4N_VIDEO_MAX_LEVELS = 16, M4N_VIDEO_MAX_CHUNKS = 1 << 16 };

typedef struct m4n_video {
  int32_t levels, chunks;
  double chunk_s;     /* seconds a chunk plays; 0 where the files do not say (video_size_N) */
  const double *kbps; /* [levels] the nominal ladder; NULL where the files do not say */
  const double *size; /* [chunks][levels] bytes, positive */
  m4n_arena memory;
} m4n_video;

int m4n_video_open(m4n_video *video, const char *path);
void m4n_video_close(m4n_video *video);

#ifdef __cplusplus
}
#endif
#endif
