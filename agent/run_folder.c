#include "agent/run_folder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

// What a run leaves, besides plots/.
static const char *const files[] = {"scenario.yaml", "events.bin",  "episodes.csv",
                                    "summary.json",  "report.html", "log.jsonl"};
enum { FILES = sizeof files / sizeof *files };

static int no_memory(void) {
  return m4n_fail(M4N_ENOMEM, "no memory for the run's folder");
}

static void forget(m4n_run_folder *folder) {
  free(folder->path);
  free(folder->scenario);
  free(folder->events);
  free(folder->log);
  *folder = (m4n_run_folder){0};
}

static void remove_in(const char *folder, const char *name) {
  char *file = m4n_path_join(folder, name);
  if (file) remove(file);
  free(file);
}

static void remove_files(const char *path) {
  for (int i = 0; i < FILES; i++) remove_in(path, files[i]);
  char *plots = m4n_path_join(path, "plots");
  m4n_names names;
  if (plots && m4n_is_dir(plots) && !m4n_list_dir(&names, plots)) {
    for (int i = 0; i < names.count; i++) remove_in(plots, names.name[i]);
    m4n_names_free(&names);
    rmdir(plots);
  }
  free(plots);
}

// "runs/abr-baselines-20261124T101500Z"; where two begin in one second the second gets "-2".
static int make_new(m4n_run_folder *folder, const char *name) {
  char path[160], stamp[32];
  time_t now = time(NULL);
  struct tm utc;
  gmtime_r(&now, &utc);
  strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &utc);
  M4N_TRY(m4n_mkdirs("runs"));
  for (int i = 1; i < 1000; i++) {
    snprintf(path, sizeof path, i == 1 ? "runs/%s-%s" : "runs/%s-%s-%d", name, stamp, i);
    if (!mkdir(path, 0777)) {
      folder->made = true;
      folder->path = strdup(path);
      return folder->path ? M4N_OK : no_memory();
    }
    if (errno != EEXIST) break;
  }
  return m4n_fail_at(M4N_EIO, path, 0, NULL, "cannot make the folder: %s", strerror(errno));
}

static int refuse(const char *out, const char *why) {
  return m4n_fail_at(M4N_EARG, out, 0, "--out", "%s", why);
}

static int check_old(const char *out, int use) {
  m4n_names names;
  M4N_TRY(m4n_list_dir(&names, out));
  bool run = false, training = false;
  int count = names.count;
  for (int i = 0; i < count; i++) {
    run = run || !strcmp(names.name[i], "scenario.yaml");
    training = training || !strcmp(names.name[i], "stamps");
  }
  m4n_names_free(&names);
  if (!count) return M4N_OK;
  if (!run)
    return refuse(
        out, "is neither empty nor a run's folder (it has no scenario.yaml): nothing is written over it");
  if (use == M4N_FOLDER_NEW) return refuse(out, "holds a run already: --resume goes on with it");
  if (use == M4N_FOLDER_REPLACE && training)
    return refuse(out, "holds a training: nothing is written over it");
  if (use == M4N_FOLDER_REPLACE) remove_files(out);
  return M4N_OK;
}

static int take_old(m4n_run_folder *folder, const char *out, int use) {
  folder->path = strdup(out);
  if (!folder->path) return no_memory();
  if (!m4n_exists(out)) {
    M4N_TRY(m4n_mkdirs(out));
    folder->made = true;
    return M4N_OK;
  }
  return m4n_is_dir(out) ? check_old(out, use) : refuse(out, "is no folder");
}

static int write_scenario(const m4n_run_folder *folder, const m4n_scenario *scenario) {
  m4n_writer writer;
  M4N_TRY(m4n_writer_open(&writer, folder->scenario));
  fputs(scenario->resolved, writer.stream);
  return m4n_writer_commit(&writer);
}

int m4n_run_folder_open(m4n_run_folder *folder, const char *out, const m4n_scenario *scenario, int use) {
  *folder = (m4n_run_folder){0};
  int status = out ? take_old(folder, out, use) : make_new(folder, scenario->name);
  if (status) {
    forget(folder);
    return status;
  }
  folder->scenario = m4n_path_join(folder->path, "scenario.yaml");
  folder->events = m4n_path_join(folder->path, "events.bin");
  folder->log = m4n_path_join(folder->path, "log.jsonl");
  if (!folder->scenario || !folder->events || !folder->log) status = no_memory();
  if (!status) status = write_scenario(folder, scenario);
  if (!status) status = m4n_log_open(folder->log);
  if (status) m4n_run_folder_close(folder, use == M4N_FOLDER_KEEP);
  return status;
}

void m4n_run_folder_close(m4n_run_folder *folder, bool keep) {
  m4n_log_close();
  if (!keep && folder->path) {
    remove_files(folder->path);
    if (folder->made) rmdir(folder->path);
  }
  forget(folder);
}
