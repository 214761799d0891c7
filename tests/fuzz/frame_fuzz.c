// Frames of strangers, in both directions. The first byte of the input says what the rest is: a frame as it is, or
// changes (place, value) to one of our own frames, which brings the fuzzer behind the first checks at once. Whatever is
// accepted is written and read again, and must then be the same bytes.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LANES = 6, FRAMES = 10, ROOM = 1 << 16 };

static struct {
  m4n_spec spec;
  m4n_hello hello, hello_again;
  m4n_wire_rows rows;
  m4n_act act;
  m4n_welcome welcome;
  m4n_buffer frame[FRAMES], once, twice;
} all;

static void *array(size_t size) {
  void *memory = calloc(LANES, size);
  if (!memory) abort();
  return memory;
}

static void build_spec(m4n_spec *s) {
  snprintf(s->task, sizeof s->task, "fuzz");
  snprintf(s->reward, sizeof s->reward, "none");
  m4n_spec_add_obs(s, "a", M4N_F64, "s", -1, HUGE_VAL, 1, 3);
  m4n_spec_add_obs(s, "b", M4N_F32, "1", -HUGE_VAL, 7, 0);
  m4n_spec_add_obs(s, "c", M4N_I32, "1", 0, 100, 2, -1, 2)->max_rows = 4;
  m4n_spec_add_obs(s, "d", M4N_I64, "1", -HUGE_VAL, HUGE_VAL, 0);
  m4n_spec_add_obs(s, "e", M4N_U8, "1", 0, 1, 1, 4);
  m4n_spec_add_obs(s, "f", M4N_U32, "1", 0, HUGE_VAL, 1, -1)->max_rows = 3;
  snprintf(m4n_spec_add_choice(s, "x", 4)->mask, M4N_NAME, "e");
  m4n_spec_add_choice(s, "y", 2);
  m4n_spec_add_info(s, "i", "1", 1);
  m4n_spec_add_metric(s, "m", "1", -1);
  m4n_spec_add_constant(s, M4N_EPISODES, 3, (const double[]){1, 2, 3});
  if (m4n_spec_layout(s)) abort();
}

static void build(void) {
  build_spec(&all.spec);
  m4n_wire_rows *r = &all.rows;
  *r = (m4n_wire_rows){.n = LANES,
                       .lane = array(sizeof *r->lane),
                       .episode = array(sizeof *r->episode),
                       .sim_time_ns = array(sizeof *r->sim_time_ns),
                       .reward = array(sizeof *r->reward),
                       .flags = array(1),
                       .obs = array(all.spec.obs_size),
                       .info = array(sizeof *r->info),
                       .metrics = array(sizeof *r->metrics),
                       .advice = array(all.spec.act_size),
                       .advised = array(1),
                       .label = array(sizeof *r->label)};
  for (int i = 0; i < LANES; i++) r->lane[i] = i;
  r->flags[0] = M4N_FIRST, r->flags[1] = M4N_TERMINATED, r->advised[2] = 1;
  r->obs[all.spec.obs[2].offset] = 2;
  m4n_act *a = &all.act;
  *a = (m4n_act){.n = LANES,
                 .action = array(all.spec.act_size),
                 .n_resets = 2,
                 .reset = array(sizeof *a->reset),
                 .delay_ns = array(sizeof *a->delay_ns),
                 .served_by = array(1),
                 .logp = array(sizeof *a->logp),
                 .value = array(sizeof *a->value)};
  a->delay_ns[1] = 5;
  all.welcome = (m4n_welcome){.version = 1, .max_frame = M4N_MAX_FRAME, .n_resets = 2, .reset = a->reset};
  all.hello = (m4n_hello){.oldest = 1, .newest = 1, .simulator = "fuzz", .lanes = LANES, .spec = all.spec};
  m4n_buffer *f = all.frame;
  m4n_encode_hello(f++, &all.hello);
  m4n_encode_welcome(f++, 7, &all.welcome);
  m4n_encode_step(f++, &all.spec, 7, 1, r);
  m4n_encode_act(f++, &all.spec, 7, 1, a);
  m4n_encode_error(f++, 7, 1, &(m4n_wire_error){.code = 1, .path = "STEP", .text = "no"});
  m4n_encode_ping(f++, M4N_FRAME_PING, 7, 1, 3);
  m4n_encode_ping(f++, M4N_FRAME_PONG, 7, 1, 3);
  m4n_encode_stats_request(f++, 7, 1);
  m4n_encode_stats(f++, 7, 1, &(m4n_wire_stats){.rows = 1});
  m4n_encode_bye(f++, 7, 1, &(m4n_bye){.reason = "enough"});
}

// Reads a frame and, if it is good, writes what was read into `out`. 0: it was good.
static int pass(const uint8_t *data, size_t size, m4n_buffer *out) {
  m4n_reader in;
  m4n_envelope h;
  m4n_wire_error error;
  m4n_wire_stats stats;
  m4n_bye bye;
  uint64_t token;
  M4N_TRY(m4n_decode_head(&in, &h, data, size));
  switch (h.type) {
  case M4N_FRAME_HELLO:
    M4N_TRY(m4n_decode_hello(&in, &h, &all.hello_again));
    m4n_encode_hello(out, &all.hello_again);
    break;
  case M4N_FRAME_WELCOME:
    M4N_TRY(m4n_decode_welcome(&in, LANES, &all.welcome));
    m4n_encode_welcome(out, h.session, &all.welcome);
    break;
  case M4N_FRAME_STEP:
    M4N_TRY(m4n_decode_step(&in, &all.spec, LANES, &all.rows));
    m4n_encode_step(out, &all.spec, h.session, h.seq, &all.rows);
    break;
  case M4N_FRAME_ACT:
    M4N_TRY(m4n_decode_act(&in, &all.spec, LANES, LANES, &all.act));
    m4n_encode_act(out, &all.spec, h.session, h.seq, &all.act);
    break;
  case M4N_FRAME_ERROR:
    M4N_TRY(m4n_decode_error(&in, &error));
    m4n_encode_error(out, h.session, h.seq, &error);
    break;
  case M4N_FRAME_STATS:
    if (!m4n_read_left(&in)) {
      M4N_TRY(m4n_decode_stats_request(&in));
      m4n_encode_stats_request(out, h.session, h.seq);
      break;
    }
    M4N_TRY(m4n_decode_stats(&in, &stats));
    m4n_encode_stats(out, h.session, h.seq, &stats);
    break;
  case M4N_FRAME_BYE:
    M4N_TRY(m4n_decode_bye(&in, &bye));
    m4n_encode_bye(out, h.session, h.seq, &bye);
    break;
  default:
    M4N_TRY(m4n_decode_ping(&in, &token));
    m4n_encode_ping(out, h.type, h.session, h.seq, token);
  }
  return M4N_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (!all.hello.lanes) build();
  if (size < 2) return 0;
  unsigned kind = data[0] % (FRAMES + 1), cut = data[1];
  data += 2, size -= 2;
  uint8_t *frame; // of exactly its size, so that one byte too many is seen
  size_t n = size;
  if (kind < FRAMES) {
    const m4n_buffer *b = &all.frame[kind];
    n = b->size > cut ? b->size - cut : b->size;
    if (!(frame = malloc(n))) abort();
    memcpy(frame, b->data, n);
    for (; size >= 3; data += 3, size -= 3) frame[(size_t)(data[0] << 8 | data[1]) % n] = data[2];
  } else {
    if (!(frame = malloc(n ? n : 1))) abort();
    memcpy(frame, data, n);
  }
  m4n_fail(M4N_EPROTO, "%s", "");
  if (pass(frame, n, &all.once)) {
    if (!m4n_last_error()->text[0]) abort(); // refused without a word
  } else if (all.once.status || pass(all.once.data, all.once.size, &all.twice) ||
             all.once.size != all.twice.size || memcmp(all.once.data, all.twice.data, all.once.size)) {
    abort();
  }
  free(frame);
  return 0;
}
