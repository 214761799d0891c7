/* Model files that are built into the program (the JSON files beside this header, made into bytes by embed.cmake). */
#ifndef M4N_TRACES_MODELS_H
#define M4N_TRACES_MODELS_H

#include <stddef.h>

typedef struct m4n_model_file {
  const char *name; /* without folder and ".json"; NULL behind the last */
  const unsigned char *data;
  size_t size;
} m4n_model_file;

extern const m4n_model_file m4n_trace_models[], m4n_video_models[];

#endif
