#include "agent/scenario_keys.h"

#include <cyaml/cyaml.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "agent/policy.h"
#include "agent/scenario.h"
#include "kernels/base/status.h"
#include "kernels/base/text.h"
#include "traces/throughput/throughput.h"

// ---- the words of choices

static const cyaml_strval_t tasks[] = {{"abr", 0}, {"null", 1}};
static const cyaml_strval_t formats[] = {
    {"auto", M4N_TRACE_AUTO},   {"cooked", M4N_TRACE_COOKED}, {"mahimahi", M4N_TRACE_MAHIMAHI},
    {"sabre", M4N_TRACE_SABRE}, {"nyu", M4N_TRACE_NYU},       {"oboe", M4N_TRACE_OBOE},
    {"ucc", M4N_TRACE_UCC}};
static const cyaml_strval_t starts[] = {
    {"fixed", M4N_START_FIXED}, {"seeded", M4N_START_SEEDED}, {"listed", M4N_START_LISTED}};
static const cyaml_strval_t qoes[] = {{"linear", M4N_QOE_LINEAR}, {"log", M4N_QOE_LOG}, {"hd", M4N_QOE_HD}};
static const cyaml_strval_t sets[] = {
    {"test", M4N_SET_TEST}, {"train", M4N_SET_TRAIN}, {"valid", M4N_SET_VALID}};
static const cyaml_strval_t delays[] = {
    {"zero", M4N_DELAY_ZERO}, {"fixed", M4N_DELAY_FIXED}, {"measured", M4N_DELAY_MEASURED}};
static const cyaml_strval_t modes[] = {{"async", 0}, {"lockstep", 1}};

// ---- the table

#define AT(member) .offset = offsetof(m4n_scenario, member), .size = sizeof(((m4n_scenario *)0)->member)
#define LIST(member, count, from, to)                                                                        \
  .offset = offsetof(m4n_scenario, member), .size = sizeof(((m4n_scenario *)0)->member),                     \
  .count_offset = offsetof(m4n_scenario, count), .least = (from), .most = (to)
#define CHOICE(list)                                                                                         \
  .type = M4N_KEY_CHOICE, .choice = (list), .n_choices = (int)(sizeof(list) / sizeof *(list))
#define TRACES(name, index)                                                                                  \
  {"abr." name ".traces",                                                                                    \
   M4N_KEY_PATHS,                                                                                            \
   "none",                                                                                                   \
   "folder (or file) of throughput traces, or a list of them",                                               \
   .word = "none",                                                                                           \
   LIST(abr.set[index].paths, abr.set[index].n_paths, 1, 64)},                                               \
      {"abr." name ".format", .usual = "auto", .meaning = "how the traces are written; auto: by content",    \
       CHOICE(formats), AT(abr.set[index].format)},                                                          \
      {"abr." name ".start", .usual = "fixed",                                                               \
       .meaning = "where an episode begins: fixed: at the trace's start; seeded: trace and place drawn; "    \
                  "listed: from pointers",                                                                   \
       CHOICE(starts), AT(abr.set[index].start)},                                                            \
      {"abr." name ".pointers",                                                                              \
       M4N_KEY_PATH,                                                                                         \
       "none",                                                                                               \
       "file of row numbers, one a trace, for start: listed",                                                \
       .word = "none",                                                                                       \
       AT(abr.set[index].pointers)},                                                                         \
  {                                                                                                          \
    "abr." name ".scale", M4N_KEY_NUMBERS, "[]",                                                             \
        "for start: seeded: [low, high]; rates are multiplied by a draw from there", 0.01, 100,              \
        LIST(abr.set[index].scale, n_scale[index], 2, 2)                                                     \
  }

const m4n_key m4n_keys[] = {
    {"name", M4N_KEY_NAME, NULL, "what the experiment is called; names the run's folder", AT(name)},
    {"task", .meaning = "the simulated world", CHOICE(tasks), AT(task)},
    {"seed", M4N_KEY_SEED, "1", "names every random stream of the run", AT(seed)},

    TRACES("test", M4N_SET_TEST),
    TRACES("train", M4N_SET_TRAIN),
    TRACES("valid", M4N_SET_VALID),
    {"abr.video.sizes", M4N_KEY_PATH, "none", "folder of video_size_N files, or a Sabre JSON file",
     .word = "none", AT(abr.video)},
    {"abr.video.chunks", M4N_KEY_INT, "all", "chunks to play; all: every one but the last", 2, 65535,
     .word = "all", .number = "0", AT(abr.chunks)},
    {"abr.video.chunk_s", M4N_KEY_NUMBER, "video", "seconds a chunk plays; video: what its files say, else 4",
     0.1, 60, .word = "video", .number = "0", AT(abr.chunk_s)},
    {"abr.video.ladder", M4N_KEY_NUMBERS, "[]",
     "kbit/s of every level; []: what the video says, else Pensieve's six", 1, 1e7,
     LIST(abr.ladder, abr.levels, 1, M4N_ABR_MAX_LEVELS)},
    {"abr.qoe.kind", .usual = "linear",
     .meaning = "what a chunk is worth: its Mbit/s, their logarithm, or HD's table", CHOICE(qoes),
     AT(abr.qoe)},
    {"abr.qoe.rebuffer", M4N_KEY_NUMBER, "usual",
     "cost of a second of rebuffering; usual: 4.3, log 2.66, hd 8", 0, 1e6, .word = "usual", .number = "-1",
     AT(abr.rebuffer)},
    {"abr.qoe.smooth", M4N_KEY_NUMBER, "usual",
     "cost of a change of level, in units of what a chunk is worth; usual: 1", 0, 1e6, .word = "usual",
     .number = "-1", AT(abr.smooth)},
    {"abr.qoe.utility", M4N_KEY_NUMBERS, "[]", "for hd: what each level is worth; []: 1, 2, 3, 12, 15, 20",
     -1e6, 1e6, LIST(abr.utility, abr.levels_hd, 1, M4N_ABR_MAX_LEVELS)},
    {"abr.noise", M4N_KEY_NUMBER, "0", "download times are multiplied by a draw from 1-noise to 1+noise", 0,
     0.99, AT(abr.noise)},
    {"abr.rtt_ms", M4N_KEY_NUMBER, "80",
     "round trip before every download; trace: what the trace's file states, else 80", 0, 1e5,
     .word = "trace", .number = "-1", AT(abr.rtt_ms)},
    {"abr.buffer_cap_s", M4N_KEY_NUMBER, "60", "buffer beyond which the client waits", 1, 3600,
     AT(abr.buffer_cap_s)},
    {"abr.drain_ms", M4N_KEY_NUMBER, "500", "what it then waits at a time", 1, 60000, AT(abr.drain_ms)},
    {"abr.payload", M4N_KEY_NUMBER, "0.95", "share of a packet that is video", 0.01, 1, AT(abr.payload)},
    {"abr.first_level", M4N_KEY_INT, "0", "level of the forced first chunk", 0, M4N_ABR_MAX_LEVELS - 1,
     AT(abr.first_level)},

    {"evaluate.policies", M4N_KEY_POLICIES, NULL, "the policies that are compared",
     LIST(evaluate.policies, evaluate.n_policies, 1, 64)},
    {"evaluate.episodes", M4N_KEY_INT, "all",
     "episodes that each policy plays; all: as many as there are traces", 1, 1e9, .word = "all",
     .number = "0", AT(evaluate.episodes)},
    {"evaluate.set", .usual = "test", .meaning = "the traces they are played on", CHOICE(sets),
     AT(evaluate.set)},
    {"evaluate.delay.kind", .usual = "zero",
     .meaning = "what a decision costs on the simulated clock: nothing, delay.ms, or the time it took",
     CHOICE(delays), AT(evaluate.delay.kind)},
    {"evaluate.delay.ms", M4N_KEY_NUMBER, "0", "for delay.kind: fixed", 0, 60000, AT(evaluate.delay.ms)},

    {"bridge.endpoint", M4N_KEY_TEXT, "inproc", "where simulator and agent meet: inproc, ipc, tcp or a URI",
     AT(bridge.endpoint)},
    {"bridge.lanes", M4N_KEY_INT, "64", "episodes that a simulator plays at once", 1, M4N_MAX_LANES,
     AT(bridge.lanes)},
    {"bridge.mode", .usual = "lockstep",
     .meaning = "answer when all simulators have asked, in their order (lockstep), or first come (async)",
     CHOICE(modes), AT(bridge.lockstep)},
    {"bridge.connect_ms", M4N_KEY_INT, "10000", "the simulator gives up if nobody answers its greeting", 1,
     86400000, AT(bridge.connect_ms)},
    {"bridge.first_ms", M4N_KEY_INT, "10000", "the simulator gives up waiting for the first decision", 1,
     86400000, AT(bridge.first_ms)},
    {"bridge.act_ms", M4N_KEY_INT, "1000", "the simulator asks again if a decision takes longer", 1, 86400000,
     AT(bridge.act_ms)},
    {"bridge.resends", M4N_KEY_INT, "3", "so many times, waiting twice as long each time, then gives up", 1,
     16, AT(bridge.resends)},
    {"bridge.idle_ms", M4N_KEY_INT, "30000", "the agent takes a simulator that is silent for so long as lost",
     1, 86400000, AT(bridge.idle_ms)},
    {"bridge.wait_ms", M4N_KEY_INT, "60000",
     "the agent gives up if no simulator is there for so long; forever: never", 1, 86400000,
     .word = "forever", .number = "0", AT(bridge.wait_ms)},
    {"bridge.fallback", M4N_KEY_POLICY, "none", "policy that answers when a decision is late", .word = "none",
     AT(bridge.fallback)},
    {"bridge.decide_ms", M4N_KEY_INT, "500", "with a fallback: a decision is late after so long", 1, 86400000,
     AT(bridge.decide_ms)},
};
const int m4n_n_keys = (int)(sizeof m4n_keys / sizeof *m4n_keys);

// ---- looking up

const m4n_key *m4n_key_find(const char *path) {
  for (int i = 0; i < m4n_n_keys; i++)
    if (!strcmp(m4n_keys[i].path, path)) return &m4n_keys[i];
  return NULL;
}

static bool under(const char *path, const char *prefix) {
  size_t n = strlen(prefix);
  return !n || (!strncmp(path, prefix, n) && path[n] == '.');
}

bool m4n_key_is_section(const char *prefix) {
  for (int i = 0; i < m4n_n_keys; i++)
    if (under(m4n_keys[i].path, prefix)) return true;
  return false;
}

enum { LONGEST = 96 };

// Levenshtein's distance; long texts are never near.
static int distance(const char *a, const char *b) {
  size_t n = strlen(a), m = strlen(b);
  if (n >= LONGEST || m >= LONGEST) return LONGEST;
  int row[LONGEST];
  for (size_t j = 0; j <= m; j++) row[j] = (int)j;
  for (size_t i = 1; i <= n; i++) {
    int diagonal = row[0];
    row[0] = (int)i;
    for (size_t j = 1; j <= m; j++) {
      int above = row[j], change = diagonal + (a[i - 1] != b[j - 1]);
      int shift = (row[j - 1] < above ? row[j - 1] : above) + 1;
      row[j] = change < shift ? change : shift;
      diagonal = above;
    }
  }
  return row[m];
}

static const char *last_part(const char *path) {
  const char *dot = strrchr(path, '.');
  return dot ? dot + 1 : path;
}

// A section is a path too: "abr.tset" means "abr.test". Where no path is near, a key of the same last name in
// another section is what was meant: "abr.rebuffer" means "abr.qoe.rebuffer".
const char *m4n_key_nearest(const char *path) {
  static _Thread_local char best[LONGEST];
  int least = strlen(last_part(path)) > 4 ? 4 : 3;
  best[0] = 0;
  for (int i = 0; i < m4n_n_keys; i++) {
    char candidate[LONGEST];
    for (size_t n = strlen(m4n_keys[i].path); n; n--) {
      if (m4n_keys[i].path[n] && m4n_keys[i].path[n] != '.') continue;
      snprintf(candidate, sizeof candidate, "%.*s", (int)n, m4n_keys[i].path);
      int d = distance(path, candidate);
      if (d < least) least = d, memcpy(best, candidate, sizeof best);
    }
  }
  for (int i = 0; i < m4n_n_keys && !best[0]; i++)
    if (!strcmp(last_part(path), last_part(m4n_keys[i].path)))
      snprintf(best, sizeof best, "%s", m4n_keys[i].path);
  return best[0] ? best : NULL;
}

void m4n_key_list(const char *prefix, char *out, size_t size) {
  size_t n = 0, skip = *prefix ? strlen(prefix) + 1 : 0;
  const char *last = "";
  size_t last_size = 0;
  out[0] = 0;
  for (int i = 0; i < m4n_n_keys; i++) {
    if (!under(m4n_keys[i].path, prefix)) continue;
    const char *part = m4n_keys[i].path + skip;
    size_t part_size = strcspn(part, ".");
    // Keys of a section stand together in the table.
    if (part_size == last_size && !strncmp(part, last, part_size)) continue;
    last = part, last_size = part_size;
    if (n < size) n += (size_t)snprintf(out + n, size - n, "%s%.*s", n ? ", " : "", (int)part_size, part);
  }
}

bool m4n_key_is_word(const m4n_key *key, const char *text) {
  return key->word && !strcmp(key->word, text);
}

// ---- checking a value

static int refuse(const m4n_key *key, const char *text, const char *file, long line, const char *expected) {
  return m4n_fail_at(M4N_EARG, file, line, key->path, "'%.60s' is refused: expected %s%s%s%s", text, expected,
                     key->word ? ", or '" : "", key->word ? key->word : "", key->word ? "'" : "");
}

static int check_number(const m4n_key *key, const char *text, bool plain, const char *file, long line) {
  char expected[128];
  bool whole = key->type == M4N_KEY_INT;
  snprintf(expected, sizeof expected, "%s from %.10g to %.10g", whole ? "a whole number" : "a number",
           key->low, key->high);
  m4n_span span = {text, strlen(text)};
  double x;
  int64_t i;
  // strtod knows hexadecimal numbers, "nan" and "inf"; a scenario does not.
  bool digits = text[0] && strspn(text, "0123456789+-.eE") == strlen(text);
  if (!plain || !digits || !m4n_span_double(span, &x) || !isfinite(x) || x < key->low || x > key->high ||
      (whole && !m4n_span_int64(span, &i)))
    return refuse(key, text, file, line, expected);
  return M4N_OK;
}

static int check_seed(const m4n_key *key, const char *text, bool plain, const char *file, long line) {
  static const char most[] = "18446744073709551615";
  size_t n = strlen(text);
  if (!plain || !n || n > sizeof most - 1 || strspn(text, "0123456789") != n || (n > 1 && text[0] == '0') ||
      (n == sizeof most - 1 && strcmp(text, most) > 0))
    return refuse(key, text, file, line, "a whole number from 0 to 18446744073709551615");
  return M4N_OK;
}

static int check_choice(const m4n_key *key, const char *text, const char *file, long line) {
  char expected[256] = "";
  size_t n = 0;
  for (int i = 0; i < key->n_choices; i++) {
    if (!strcmp(key->choice[i].str, text)) return M4N_OK;
    n += (size_t)snprintf(expected + n, sizeof expected - n, "%s%s",
                          i == 0 ? "" : (i + 1 == key->n_choices ? " or " : ", "), key->choice[i].str);
  }
  return refuse(key, text, file, line, expected);
}

static int check_policy(const char *text, const m4n_key *key, const char *file, long line) {
  const m4n_policy_kind *kind;
  int status = m4n_policy_find(&kind, text);
  if (!status) return M4N_OK;
  char reason[sizeof m4n_last_error()->text]; // the record is about to be written again
  snprintf(reason, sizeof reason, "%s", m4n_last_error()->text);
  return m4n_fail_at(status, file, line, key->path, "%s", reason);
}

int m4n_key_check(const m4n_key *key, const char *text, bool plain, const char *file, long line) {
  if (plain && m4n_key_is_word(key, text)) return M4N_OK;
  switch (key->type) {
  case M4N_KEY_INT:
  case M4N_KEY_NUMBER:
  case M4N_KEY_NUMBERS:
    return check_number(key, text, plain, file, line);
  case M4N_KEY_SEED:
    return check_seed(key, text, plain, file, line);
  case M4N_KEY_CHOICE:
    return check_choice(key, text, file, line);
  case M4N_KEY_NAME:
    return text[0] && text[0] != '.' && strlen(text) <= 64 &&
                   strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
                       strlen(text)
               ? M4N_OK
               : refuse(key, text, file, line, "1 to 64 letters, digits, '.', '_' or '-'");
  case M4N_KEY_POLICY:
  case M4N_KEY_POLICIES:
    return check_policy(text, key, file, line);
  default:
    return text[0] && strlen(text) < 4096 ? M4N_OK
                                          : refuse(key, text, file, line, "a text of 1 to 4095 bytes");
  }
}

// ---- help

static void print_value(FILE *out, const m4n_key *key) {
  switch (key->type) {
  case M4N_KEY_CHOICE:
    for (int i = 0; i < key->n_choices; i++) fprintf(out, "%s%s", i ? ", " : "", key->choice[i].str);
    break;
  case M4N_KEY_INT:
  case M4N_KEY_NUMBER:
    fprintf(out, "%.10g … %.10g", key->low, key->high);
    break;
  case M4N_KEY_NUMBERS:
    fprintf(out, "list of numbers");
    break;
  case M4N_KEY_POLICIES:
    fprintf(out, "list of policies");
    break;
  case M4N_KEY_PATHS:
    fprintf(out, "path, list of paths");
    break;
  default:
    fputs(key->type == M4N_KEY_NAME     ? "name"
          : key->type == M4N_KEY_PATH   ? "path"
          : key->type == M4N_KEY_POLICY ? "policy"
          : key->type == M4N_KEY_SEED   ? "0 … 2^64-1"
                                        : "text",
          out);
  }
  if (key->word) fprintf(out, ", %s", key->word);
}

void m4n_key_print(FILE *out, bool markdown) {
  if (markdown) fputs("| key | values | default | meaning |\n|---|---|---|---|\n", out);
  for (int i = 0; i < m4n_n_keys; i++) {
    const m4n_key *key = &m4n_keys[i];
    const char *usual = key->usual ? key->usual : "must be given";
    if (markdown) {
      fprintf(out, "| `%s` | ", key->path);
      print_value(out, key);
      fprintf(out, " | %s | %s |\n", usual, key->meaning);
    } else {
      fprintf(out, "%s\n    %s\n    values: ", key->path, key->meaning);
      print_value(out, key);
      fprintf(out, "; default: %s\n", usual);
    }
  }
}
