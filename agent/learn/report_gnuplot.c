#include "agent/learn/report_gnuplot.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/base/log.h"
#include "kernels/base/status.h"

extern char **environ;

// Starts it with its standard error on `error_fd`; returns an errno.
static int start(pid_t *child, const char *program, const char *folder, const char *script, int error_fd) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t none;
  sigemptyset(&none);
  if (posix_spawn_file_actions_init(&actions)) return ENOMEM;
  if (posix_spawnattr_init(&attributes)) {
    posix_spawn_file_actions_destroy(&actions);
    return ENOMEM;
  }
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, error_fd, 2);
  posix_spawn_file_actions_addchdir_np(&actions, folder);
  char name[] = "gnuplot", no_startup[] = "--default-settings", *file = strdup(script);
  char *arguments[] = {name, no_startup, file, NULL};
  int failed =
      file ? posix_spawnp(child, program ? program : "gnuplot", &actions, &attributes, arguments, environ)
           : ENOMEM;
  free(file);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  return failed;
}

// Keeps the end of what comes until the other end is closed: errors are said last. False: time is up.
static bool listen_to(int fd, char *text, size_t size, int64_t deadline_ns) {
  size_t kept = 0;
  for (;;) {
    int64_t left = (deadline_ns - m4n_now_ns()) / 1000000;
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (left <= 0) return false;
    int ready = poll(&wait, 1, (int)left);
    if (ready < 0 && errno != EINTR) return true;
    if (ready <= 0) continue;
    if (kept + 1 >= size) {
      kept = size / 2;
      memmove(text, text + size - 1 - kept, kept);
    }
    ssize_t n = read(fd, text + kept, size - 1 - kept);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return true;
    kept += (size_t)n;
    text[kept] = 0;
  }
}

// gnuplot draws a caret under what it complains of: lines become one, blanks are dropped.
static void one_line(char *text) {
  char *out = text;
  for (const char *at = text; *at; at++) {
    char c = (unsigned char)*at < ' ' ? ' ' : *at;
    if (c != ' ' || (out > text && out[-1] != ' ')) *out++ = c;
  }
  *out = 0;
}

int m4n_gnuplot_run(const char *program, const char *folder, const char *script, int seconds) {
  int pipes[2];
  pid_t child;
  if (pipe2(pipes, O_CLOEXEC)) return m4n_fail(M4N_EIO, "cannot make a pipe: %s", strerror(errno));
  int failed = start(&child, program, folder, script, pipes[1]);
  close(pipes[1]);
  if (failed) {
    close(pipes[0]);
    return m4n_fail(M4N_EUNSUPPORTED, "cannot start %s: %s", program ? program : "gnuplot", strerror(failed));
  }
  char said[600] = "";
  int how = 0;
  bool in_time = listen_to(pipes[0], said, sizeof said, m4n_now_ns() + seconds * INT64_C(1000000000));
  if (!in_time) kill(child, SIGKILL);
  while (waitpid(child, &how, 0) < 0 && errno == EINTR) {
  }
  close(pipes[0]);
  one_line(said);
  if (!in_time) return m4n_fail(M4N_ETIMEOUT, "gnuplot took more than %d s and was stopped", seconds);
  if (WIFEXITED(how) && WEXITSTATUS(how) == 0) return M4N_OK;
  if (WIFSIGNALED(how)) return m4n_fail(M4N_EIO, "gnuplot was ended: %s", strsignal(WTERMSIG(how)));
  return m4n_fail(M4N_EIO, "gnuplot failed: %s", said[0] ? said : "it said nothing");
}
