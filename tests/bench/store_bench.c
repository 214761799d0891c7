/* How fast the event log is written and read: adaptive-bitrate episodes of 47 decisions whose numbers have the
 * entropy of real ones (measured throughputs and times are random in all bits, histories slide, sizes repeat).
 *
 *     build/release/tests/agent/store_bench [FILE]        # default: a file in /tmp, removed afterwards
 *
 * Prints: rate of the calling thread alone, of the whole writing, of reading; bytes a step in memory and file.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/learn/store.h"
#include "kernels/base/log.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"

enum { STEPS = 47, KINDS = 256, EPISODES = 40000, LEVELS = 6, LANES = 64 };

typedef struct row {
  double throughput[8], download[8], buffer, last, sizes[5][LEVELS], left;
} row;

typedef struct step {
  row obs;
  int64_t time;
  double reward, info[7];
  int64_t action; /* i32 and its padding */
} step;

static m4n_spec spec_of_abr(void) {
  static const char *const info[] = {"level",      "bitrate_mbps", "rebuffer_s", "buffer_s",
                                     "download_s", "sleep_s",      "link_mbps"};
  m4n_spec spec = {.task = "abr"};
  m4n_spec_add_obs(&spec, M4N_ABR_THROUGHPUT, M4N_F64, "MB/s", 0, HUGE_VAL, 1, 8);
  m4n_spec_add_obs(&spec, M4N_ABR_DOWNLOAD, M4N_F64, "s", 0, HUGE_VAL, 1, 8);
  m4n_spec_add_obs(&spec, M4N_ABR_BUFFER, M4N_F64, "s", 0, HUGE_VAL, 0);
  m4n_spec_add_obs(&spec, M4N_ABR_LAST_LEVEL, M4N_F64, "", 0, LEVELS - 1, 0);
  m4n_spec_add_obs(&spec, M4N_ABR_NEXT_SIZES, M4N_F64, "byte", 0, HUGE_VAL, 2, 5, LEVELS);
  m4n_spec_add_obs(&spec, M4N_ABR_CHUNKS_LEFT, M4N_F64, "", 0, HUGE_VAL, 0);
  m4n_spec_add_choice(&spec, "level", LEVELS);
  for (int i = 0; i < 7; i++) m4n_spec_add_info(&spec, info[i], "", 0);
  m4n_spec_add_metric(&spec, "qoe", "", 1);
  m4n_spec_layout(&spec);
  return spec;
}

// A plain streaming client on a random walk of a link: only its numbers matter.
static void play(step *out, uint64_t episode, double sizes[STEPS + 6][LEVELS]) {
  static const double mbps[LEVELS] = {0.3, 0.75, 1.2, 1.85, 2.85, 4.3};
  m4n_rng rng = m4n_rng_make(1, episode, M4N_RNG_TEST);
  double rate = 0.1 + 0.4 * m4n_rng_uniform(&rng), time = 0;
  row now = {.buffer = 4};
  for (int t = 0; t <= STEPS; t++) {
    memcpy(now.sizes, sizes[t + 1], sizeof now.sizes);
    now.left = STEPS - t;
    int level = now.buffer < 5 ? 0 : now.buffer > 15 ? 5 : (int)((now.buffer - 5) / 2), last = (int)now.last;
    rate = fmax(0.03, rate * exp(0.3 * (m4n_rng_uniform(&rng) - 0.5)));
    double download = sizes[t + 1][level] / 1e6 / rate + 0.08, stalled = fmax(download - now.buffer, 0);
    double buffer = fmax(now.buffer - download, 0) + 4,
           sleep = buffer > 60 ? 0.5 * ceil((buffer - 60) / 0.5) : 0;
    double info[] = {level, mbps[level], stalled, buffer - sleep, download, sleep, 8 * rate};
    out[t] = (step){
        now, (int64_t)(time * 1e9), mbps[level] - 4.3 * stalled - fabs(mbps[level] - mbps[last]), {0}, level};
    memcpy(out[t].info, info, sizeof info);
    memmove(now.throughput, now.throughput + 1, 7 * sizeof(double));
    memmove(now.download, now.download + 1, 7 * sizeof(double));
    now.throughput[7] = sizes[t + 1][level] / 1e6 / download;
    now.download[7] = download;
    now.buffer = buffer - sleep;
    now.last = level;
    time += download + sleep;
  }
}

static double cpu_seconds(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds: of the calling thread and of the log's thread (processor time), and of the whole (wall clock). */
typedef struct timing {
  double caller, writer, whole;
} timing;

static int write_all(const char *path, const m4n_events_header *header, const step *steps, timing *t) {
  m4n_events *log;
  M4N_TRY(m4n_events_create(&log, path, header, LANES));
  int64_t begin = m4n_now_ns();
  t->caller = -cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
  t->writer = -cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
  for (int first = 0; first < EPISODES; first += LANES) {
    // Lanes run side by side, as they do in a run.
    for (int k = 0; k <= STEPS; k++)
      for (int lane = 0; lane < LANES; lane++) {
        const step *s = steps + (size_t)((first + lane) % KINDS) * (STEPS + 1) + k;
        double metric = 1;
        if (k == 0) {
          m4n_reset order = {.episode = first + lane, .copy_of = -1};
          m4n_events_begin(log, lane, 0, &order, "a_trace_of_a_bus_ride", (const uint8_t *)&s->obs, s->time);
        } else {
          m4n_events_action(log, lane, (const uint8_t *)&s[-1].action, 0, 0);
          m4n_events_result(log, lane, (const uint8_t *)&s->obs, s[-1].reward, s[-1].info, s->time,
                            k == STEPS ? M4N_TERMINATED : 0, &metric);
        }
      }
  }
  t->caller += cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
  M4N_TRY(m4n_events_close(log));
  t->writer += cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - t->caller;
  t->whole = (double)(m4n_now_ns() - begin) * 1e-9;
  return M4N_OK;
}

static int read_all(const char *path, double *seconds) {
  m4n_events_file *file;
  int64_t begin = m4n_now_ns(), steps = 0;
  M4N_TRY(m4n_events_open(&file, path));
  m4n_episode e;
  bool more;
  int status;
  while (!(status = m4n_events_next(file, &e, &more)) && more) steps += e.steps;
  m4n_events_free(file);
  *seconds = (double)(m4n_now_ns() - begin) * 1e-9;
  return status                               ? status
         : steps == (int64_t)EPISODES * STEPS ? M4N_OK
                                              : m4n_fail(M4N_EDIFFERS, "steps are missing");
}

static int bench(const char *path) {
  static double sizes[STEPS + 6][LEVELS];
  m4n_rng rng = m4n_rng_make(1, 0, M4N_RNG_GENERATE);
  for (int c = 0; c < STEPS + 6; c++)
    for (int l = 0; l < LEVELS; l++)
      sizes[c][l] = c < STEPS + 1 ? floor((l + 1) * 2e5 * (0.7 + 0.6 * m4n_rng_uniform(&rng))) : 0;
  step *steps = calloc((size_t)KINDS * (STEPS + 1), sizeof *steps);
  if (!steps) return m4n_fail(M4N_ENOMEM, "no memory");
  for (int k = 0; k < KINDS; k++) play(steps + (size_t)k * (STEPS + 1), (uint64_t)k, sizes);
  static const char *const name[] = {"policy"};
  m4n_events_header header = {
      .spec = spec_of_abr(), .seed = 1, .n_policies = 1, .policy = name, .scenario = ""};
  timing t;
  double n = (double)EPISODES * STEPS, raw = header.spec.obs_size + header.spec.act_size + 8 * (7 + 4),
         reading;
  int status = write_all(path, &header, steps, &t);
  free(steps);
  M4N_TRY(status);
  struct stat about = {0};
  stat(path, &about);
  M4N_TRY(read_all(path, &reading));
  printf("write: %.2f M steps/s; processor time a step: caller %.0f ns, writer %.0f ns (%.2f M steps/s on a "
         "core of its own)\n",
         n / t.whole / 1e6, t.caller / n * 1e9, t.writer / n * 1e9, n / t.writer / 1e6);
  printf("read:  %.2f M steps/s\n", n / reading / 1e6);
  printf("size:  %.1f bytes a step of %.0f in memory\n", (double)about.st_size / n, raw);
  return M4N_OK;
}

int main(int argc, char **argv) {
  char path[64] = "/tmp/store-bench-XXXXXX";
  int fd = argc > 1 ? -1 : mkstemp(path);
  if (argc < 2 && fd < 0) return 1;
  if (fd >= 0) close(fd);
  int status = bench(argc > 1 ? argv[1] : path);
  if (status) fprintf(stderr, "%s\n", m4n_error_message());
  if (argc < 2) unlink(path);
  return status != 0;
}
