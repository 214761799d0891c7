/* Runs the program as a user does and keeps what it printed.
 *
 *     Program p({"trace", "info", folder});
 *     EXPECT_EQ(p.status, 0) << p.err;
 */
#ifndef M4N_TESTS_SUPPORT_PROGRAM_H
#define M4N_TESTS_SUPPORT_PROGRAM_H

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/paths.h"

extern char **environ;

struct Program {
  int status = -1; /* exit status; 128 + the signal that ended it; -1 where it could not be started */
  std::string out, err;

  /* `out_path`: where standard output goes instead, "/dev/full" for one. */
  explicit Program(std::vector<std::string> arguments, const std::string &out_path = "") {
    std::string program = M4N_PROGRAM, folder = m4n_temp_dir();
    std::string out_file = out_path.empty() ? folder + "/out" : out_path, err_file = folder + "/err";
    std::vector<char *> argv{program.data()};
    for (std::string &a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, out_file.c_str(), O_WRONLY | O_CREAT, 0600);
    posix_spawn_file_actions_addopen(&files, 2, err_file.c_str(), O_WRONLY | O_CREAT, 0600);
    pid_t child;
    int result, failed = posix_spawn(&child, program.c_str(), &files, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&files);
    if (failed || waitpid(child, &result, 0) != child) return;
    status = WIFEXITED(result) ? WEXITSTATUS(result) : 128 + WTERMSIG(result);
    if (out_path.empty()) out = slurp(out_file);
    err = slurp(err_file);
  }

  bool says(const std::string &text) const { return out.find(text) != std::string::npos; }
  bool complains(const std::string &text) const { return err.find(text) != std::string::npos; }

private:
  static std::string slurp(const std::string &path) {
    std::ifstream in(path, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
};

#endif
