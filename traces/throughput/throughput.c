#include "traces/throughput/throughput.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "traces/throughput/rows.h"

static const struct {
  const char *name;
  m4n_trace_reader *read;
} formats[] = {
    [M4N_TRACE_AUTO] = {"auto", NULL},
    [M4N_TRACE_COOKED] = {"cooked", m4n_trace_read_cooked},
    [M4N_TRACE_MAHIMAHI] = {"mahimahi", m4n_trace_read_mahimahi},
    [M4N_TRACE_SABRE] = {"sabre", m4n_trace_read_sabre},
    [M4N_TRACE_NYU] = {"nyu", m4n_trace_read_nyu},
    [M4N_TRACE_OBOE] = {"oboe", m4n_trace_read_oboe},
    [M4N_TRACE_UCC] = {"ucc", m4n_trace_read_ucc},
};
enum { FORMATS = sizeof formats / sizeof *formats };

int m4n_trace_format_of(const char *name) {
  for (int i = 0; i < FORMATS; i++)
    if (strcmp(name, formats[i].name) == 0) return i;
  return -1;
}

const char *m4n_trace_format_name(int format) {
  return format >= 0 && format < FORMATS ? formats[format].name : NULL;
}

// ---- which format it is -----------------------------------------------------------------------------------

// Two columns are cooked (s, Mbit/s) or Oboe (ms, kbit/s). Oboe's lines come in pairs of one bandwidth, and its
// figures are a thousand times larger: steps of 100 s and more at 100 Mbit/s and more are no cooked trace.
static int cooked_or_oboe(m4n_lines lines) {
  double first = 0, last = 0, sum = 0, before = 0;
  int count = 0;
  for (m4n_span line; count < 200 && m4n_rows_line(&lines, &line); count++) {
    m4n_words words = {line};
    m4n_span word;
    double time, rate;
    m4n_words_next(&words, &word);
    if (!m4n_span_double(word, &time) || !m4n_words_next(&words, &word) || !m4n_span_double(word, &rate))
      break;
    if (count % 2 && rate != before) return M4N_TRACE_COOKED;
    if (!count) first = time;
    last = time, before = rate, sum += rate;
  }
  return count >= 4 && last - first >= 100.0 * (count - 1) && sum >= 100.0 * count ? M4N_TRACE_OBOE
                                                                                   : M4N_TRACE_COOKED;
}

static bool contains(m4n_span s, const char *word) {
  return memmem(s.at, s.size, word, strlen(word)) != NULL;
}

static int detect(const char *file, const void *data, size_t size, int *format) {
  m4n_lines lines = m4n_lines_of(data, size), all = lines;
  m4n_span line, word, second;
  if (!m4n_rows_line(&lines, &line))
    return m4n_fail_at(M4N_EFORMAT, file, 0, NULL, "is empty: expected a throughput trace");
  m4n_words words = {line};
  double value;
  m4n_words_next(&words, &word);
  if (*word.at == '[' || *word.at == '{')
    *format = M4N_TRACE_SABRE;
  else if (contains(line, "Timestamp") && contains(line, ","))
    *format = M4N_TRACE_UCC;
  else if (contains(line, ",") && contains(line, "its/sec"))
    *format = M4N_TRACE_NYU;
  else if (!m4n_span_double(word, &value))
    return m4n_fail_at(
        M4N_EFORMAT, file, lines.number, NULL,
        "\"%.*s\" begins no known format: expected cooked (s Mbit/s), mahimahi (ms), sabre (JSON), "
        "nyu (value,unit), oboe (ms kbit/s) or ucc (CSV)",
        M4N_SPAN(word));
  else if (m4n_words_next(&words, &second))
    *format = cooked_or_oboe(all);
  else
    *format = M4N_TRACE_MAHIMAHI;
  return M4N_OK;
}

// ---- one trace --------------------------------------------------------------------------------------------

// What every trace must be, whatever its format. The two floors keep a simulator that goes round and round a
// trace until a chunk is through from going round for ever; real traces are a thousand times above them.
static int check(const m4n_rows *rows) {
  int n = rows->count;
  if (n < 2)
    return m4n_fail_at(M4N_EFORMAT, rows->file, 0, "time",
                       "the trace has length 0: expected at least two different times");
  double mbit = 0, seconds = rows->time[n - 1] - rows->time[0];
  for (int i = 1; i < n; i++) mbit += rows->mbps[i] * (rows->time[i] - rows->time[i - 1]);
  if (mbit == 0)
    return m4n_fail_at(M4N_EFORMAT, rows->file, 0, "bandwidth",
                       "is always 0: expected a trace that carries data");
  if (mbit < 0.001 * seconds)
    return m4n_fail_at(M4N_EFORMAT, rows->file, 0, "bandwidth",
                       "is %g Mbit/s on average: expected at least 0.001 Mbit/s", mbit / seconds);
  if (seconds < 0.001 * (n - 1))
    return m4n_fail_at(M4N_EFORMAT, rows->file, 0, "time", "%d rows in %g s: expected at least 1 ms a row",
                       n - 1, seconds);
  return M4N_OK;
}

int m4n_trace_parse(m4n_trace *trace, m4n_arena *arena, const char *name, const void *data, size_t size,
                    int format) {
  if (format < 0 || format >= FORMATS) return m4n_fail(M4N_EARG, "%d is no trace format", format);
  if (size > M4N_TRACE_MAX_BYTES)
    return m4n_fail_at(M4N_EFORMAT, name, 0, NULL, "%zu bytes, at most %d are accepted", size,
                       M4N_TRACE_MAX_BYTES);
  int found = format;
  if (format == M4N_TRACE_AUTO || !size) M4N_TRY(detect(name, data, size, &found));
  m4n_rows rows = {.file = name, .rtt_ms = -1};
  M4N_TRY(formats[found].read(&rows, arena, data, size));
  M4N_TRY(check(&rows));
  const char *kept = m4n_arena_strdup(arena, m4n_path_base(name));
  if (!kept) return M4N_ENOMEM;
  *trace = (m4n_trace){kept, rows.count, found, rows.time, rows.mbps, rows.rtt_ms};
  return M4N_OK;
}

// ---- a set ------------------------------------------------------------------------------------------------

static int read_file(m4n_traces *set, const char *path, int format) {
  m4n_map map;
  M4N_TRY(m4n_map_open(&map, path, M4N_TRACE_MAX_BYTES));
  int status = m4n_trace_parse(&set->trace[set->count], &set->memory, path, map.data, map.size, format);
  m4n_map_close(&map);
  if (!status) set->count++;
  return status;
}

static bool is_trace_name(const char *name) {
  return strncasecmp(name, "README", 6) != 0 && strcmp(name, "index.tsv") != 0;
}

static bool is_regular(const char *path) {
  struct stat about;
  return stat(path, &about) == 0 && S_ISREG(about.st_mode);
}

static int read_folder(m4n_traces *set, const char *path, const m4n_names *names, int format) {
  int folders = 0;
  for (int i = 0; i < names->count; i++) {
    if (!is_trace_name(names->name[i])) continue;
    char *file = m4n_path_join(path, names->name[i]);
    if (!file) return m4n_fail(M4N_ENOMEM, "no memory for a path");
    folders += m4n_is_dir(file);
    int status = is_regular(file) ? read_file(set, file, format) : M4N_OK;
    free(file);
    M4N_TRY(status);
  }
  if (set->count) return M4N_OK;
  return m4n_fail_at(M4N_ENOTFOUND, path, 0, NULL, "holds no trace files%s",
                     folders ? ", only folders: name one of them" : "");
}

static int read_set(m4n_traces *set, const char *path, int format) {
  bool folder = m4n_is_dir(path);
  m4n_names names = {0};
  if (folder) M4N_TRY(m4n_list_dir(&names, path));
  int room = folder ? names.count : 1, status = M4N_OK;
  if (room > M4N_TRACE_MAX_FILES)
    status = m4n_fail_at(M4N_EFORMAT, path, 0, NULL, "%d files, at most %d are accepted", room,
                         M4N_TRACE_MAX_FILES);
  else if (!(set->trace = m4n_arena_alloc(&set->memory, (size_t)room * sizeof *set->trace)))
    status = M4N_ENOMEM;
  else
    status = folder ? read_folder(set, path, &names, format) : read_file(set, path, format);
  m4n_names_free(&names);
  return status;
}

int m4n_traces_open(m4n_traces *set, const char *path, int format) {
  *set = (m4n_traces){0};
  int status = read_set(set, path, format);
  if (status) m4n_traces_close(set);
  return status;
}

void m4n_traces_close(m4n_traces *set) {
  m4n_arena_close(&set->memory);
  *set = (m4n_traces){0};
}
