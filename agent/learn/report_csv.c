/* episodes.csv: a line an episode, sorted, nothing in it of lanes, transport or wall clock. */
#include "agent/learn/report_data.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

static const char *ended(uint32_t flags) {
  return flags & M4N_LOST ? "lost" : flags & M4N_TERMINATED ? "terminated" : "truncated";
}

int m4n_report_csv(const m4n_report *r, const char *path) {
  m4n_writer writer;
  M4N_TRY(m4n_writer_open(&writer, path));
  FILE *out = writer.stream;
  char number[32];
  fputs("policy,episode,label,steps,reward_mean,reward_total,ended", out);
  for (int i = 0; i < r->spec.n_metrics; i++) {
    putc(',', out);
    m4n_text_csv(out, r->spec.metric[i].name);
  }
  putc('\n', out);
  for (int i = 0; i < r->n_rows; i++) {
    const m4n_report_row *row = &r->row[i];
    m4n_text_csv(out, r->policy[row->policy].name);
    fprintf(out, ",%lld,", (long long)row->episode);
    m4n_text_csv(out, row->label);
    fprintf(out, ",%d,%s", row->steps, m4n_text_number(number, row->reward_mean));
    fprintf(out, ",%s,%s", m4n_text_number(number, row->reward_total), ended(row->flags));
    for (int m = 0; m < r->spec.n_metrics; m++) fprintf(out, ",%s", m4n_text_number(number, row->metric[m]));
    putc('\n', out);
  }
  return m4n_writer_commit(&writer);
}
