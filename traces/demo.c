// m4n_demo FOLDER: the demo data, made at build time from committed models and seeds.
//
// FOLDER gets train/, valid/ and test/ (cooked traces, two fifths as in fcc, two fifths as in norway-hsdpa, one
// fifth as in mahimahi with its outages), video/ and, last, README.txt. Every file is written whole or not at all
// and has the same bytes each time, so that two builds may run at once.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "traces/throughput/model.h"
#include "traces/video/model.h"

static const char *const mix[] = {"fcc", "norway-hsdpa", "fcc", "norway-hsdpa", "mahimahi"};
enum { MIX = sizeof mix / sizeof *mix, SECONDS = 320 };

static const struct {
  const char *folder;
  int traces;
  uint64_t
      seed; // no two sets share one, so none shares a trace; chosen so that the sets are alike (README.md)
} sets[] = {{"train", 60, 130}, {"valid", 20, 121}, {"test", 40, 147}};
enum { SETS = sizeof sets / sizeof *sets, VIDEO_SEED = 104 };

static int write_trace(const m4n_trace *trace, const char *folder) {
  char *path = m4n_path_join(folder, trace->name);
  if (!path) return m4n_fail(M4N_ENOMEM, "no memory for a path");
  int status = m4n_trace_write(trace, path, M4N_TRACE_COOKED);
  free(path);
  return status;
}

// What an older build left there: a set is every file of its folder.
static int remove_others(const char *folder, const m4n_trace *trace, int count) {
  m4n_names names;
  M4N_TRY(m4n_list_dir(&names, folder));
  for (int i = 0; i < names.count; i++) {
    int k = 0;
    while (k < count && strcmp(trace[k].name, names.name[i]) != 0) k++;
    char *path = k == count ? m4n_path_join(folder, names.name[i]) : NULL;
    if (path) unlink(path);
    free(path);
  }
  m4n_names_free(&names);
  return M4N_OK;
}

static int make_set(const char *folder, int count, uint64_t seed, m4n_arena *arena) {
  m4n_trace_model model[MIX];
  for (int i = 0; i < MIX; i++) M4N_TRY(m4n_trace_model_open(&model[i], mix[i]));
  M4N_TRY(m4n_mkdirs(folder));
  m4n_trace *trace = m4n_arena_alloc(arena, (size_t)count * sizeof *trace);
  if (!trace) return M4N_ENOMEM;
  for (int i = 0; i < count; i++) {
    M4N_TRY(m4n_trace_generate(&trace[i], arena, &model[i % MIX], seed, (uint64_t)i, SECONDS));
    M4N_TRY(write_trace(&trace[i], folder));
  }
  return remove_others(folder, trace, count);
}

static int make_video(const char *folder) {
  m4n_video_model model;
  m4n_video video;
  M4N_TRY(m4n_video_model_open(&model, "pensieve"));
  M4N_TRY(m4n_video_generate(&video, &model, VIDEO_SEED, 0));
  int status = m4n_video_write(&video, folder);
  m4n_video_close(&video);
  return status;
}

static int make_readme(const char *path) {
  m4n_writer file;
  M4N_TRY(m4n_writer_open(&file, path));
  fputs("Synthetic demo data, made by the build from the models in traces/models (see traces/README.md).\n"
        "cooked traces: time in s, rate in Mbit/s; video: bytes of each chunk at each level.\n\n",
        file.stream);
  for (int s = 0; s < SETS; s++)
    fprintf(file.stream, "%-6s %3d traces of %d s, seed %d\n", sets[s].folder, sets[s].traces, SECONDS,
            (int)sets[s].seed);
  return m4n_writer_commit(&file);
}

static int make(const char *root) {
  int status = M4N_OK;
  for (int s = 0; s < SETS + 2 && !status; s++) {
    const char *name = s < SETS ? sets[s].folder : s == SETS ? "video" : "README.txt";
    char *path = m4n_path_join(root, name);
    m4n_arena arena = {0};
    if (!path)
      status = m4n_fail(M4N_ENOMEM, "no memory for a path");
    else if (s < SETS)
      status = make_set(path, sets[s].traces, sets[s].seed, &arena);
    else
      status = s == SETS ? make_video(path) : make_readme(path);
    m4n_arena_close(&arena);
    free(path);
  }
  return status;
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fputs("usage: m4n_demo FOLDER\n", stderr);
    return 2;
  }
  if (!make(argv[1])) return 0;
  fprintf(stderr, "m4n_demo: %s\n", m4n_error_message());
  return 1;
}
