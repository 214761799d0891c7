/* The event log's reader on hostile files: the input is a file as it is, and, behind its hashes, contents. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xxhash.h>
#include <zstd.h>

#include "agent/learn/store.h"
#include "agent/learn/store_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile double sum; // what is handed out must be there to be read

static void read_file(const char *path) {
  m4n_events_file *file;
  if (m4n_events_open(&file, path)) return;
  const m4n_spec *spec = &m4n_events_header_of(file)->spec;
  m4n_episode e;
  bool more;
  while (!m4n_events_next(file, &e, &more) && more) {
    size_t T = (size_t)e.steps;
    double total = 0;
    for (size_t i = 0; i < (T + 1) * spec->obs_size; i += 8) total += e.obs[i];
    for (size_t i = 0; i < T * spec->act_size; i++) total += e.action[i];
    for (size_t i = 0; i < T; i++) total += e.reward[i] + (double)e.delay_ns[i] + e.served_by[i];
    for (size_t i = 0; i < T * (size_t)spec->n_info; i++) total += e.info[i];
    for (int i = 0; i < spec->n_metrics; i++) total += e.metrics[i];
    for (size_t i = 0; i <= T; i++) total += (double)e.sim_time_ns[i];
    sum = total + (double)strlen(e.label) + m4n_events_header_of(file)->policy[e.policy][0];
  }
  m4n_events_free(file);
}

static void append_record(FILE *out, uint32_t kind, const uint8_t *content, size_t size) {
  size_t room = ZSTD_compressBound(size);
  uint8_t *frame = malloc(M4N_RECORD_HEAD + room);
  if (!frame) abort();
  size_t n = ZSTD_compress(frame + M4N_RECORD_HEAD, room, content, size, 1);
  m4n_record head = {kind, size, n, XXH3_64bits(content, size)};
  m4n_record_put(frame, &head);
  fwrite(frame, 1, M4N_RECORD_HEAD + n, out);
  free(frame);
}

// First byte even: the rest is the file. Odd: two bytes of length, a header's content, an episode's content.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 3) return 0;
  int fd = memfd_create("events", MFD_CLOEXEC);
  FILE *out = fd < 0 ? NULL : fdopen(fd, "wb");
  if (!out) abort();
  if (data[0] % 2) {
    size_t header = (size_t)(data[1] + 256 * data[2]);
    if (header > size - 3) header = size - 3;
    append_record(out, M4N_RECORD_HEADER, data + 3, header);
    append_record(out, M4N_RECORD_EPISODE, data + 3 + header, size - 3 - header);
  } else {
    fwrite(data + 1, 1, size - 1, out);
  }
  fflush(out);
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  read_file(path);
  fclose(out);
  return 0;
}
