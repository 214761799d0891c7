/* Runs the program as a user does and keeps what it printed.
 *
 *     Program p({"trace", "info", folder});
 *     EXPECT_EQ(p.status, 0) << p.err;
 *
 *     Process agent({"serve", "--policy", "bba"});           // goes on beside the test
 *     ASSERT_TRUE(agent.says("serving"));
 *     agent.send(SIGTERM);
 *     EXPECT_EQ(agent.finish().status, 0);
 */
#ifndef M4N_TESTS_SUPPORT_PROGRAM_H
#define M4N_TESTS_SUPPORT_PROGRAM_H

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/paths.h"

struct Ended {
  int status =
      -1; /* exit status; 128 + the signal that ended it; -1: still there when the time was over, and killed */
  std::string out, err;

  bool says(const std::string &text) const { return out.find(text) != std::string::npos; }
  bool complains(const std::string &text) const { return err.find(text) != std::string::npos; }
};

struct ProcessOptions {
  std::string out = "";    /* where standard output goes instead, "/dev/full" for one */
  std::string folder = ""; /* working directory */
  long file_size = -1;     /* no file may grow beyond it: `ulimit -f` */
  bool unread = false;     /* standard output is a pipe that nobody reads any more */
  int seconds = 120;       /* it may take */
};

class Process {
public:
  explicit Process(const std::vector<std::string> &arguments, const ProcessOptions &options = {})
      : options_(options), files_(m4n_temp_dir()) {
    std::vector<char *> argv = {const_cast<char *>("mamba4net")};
    for (const std::string &a : arguments) argv.push_back(const_cast<char *>(a.c_str()));
    argv.push_back(nullptr);
    std::string out = options.out.empty() ? files_ + "/out" : options.out, err = files_ + "/err";
    pid_ = fork();
    if (pid_) return;
    redirect("/dev/null", O_RDONLY, 0);
    redirect(out, O_WRONLY | O_CREAT, 1);
    redirect(err, O_WRONLY | O_CREAT, 2);
    if (!options.folder.empty() && chdir(options.folder.c_str())) _exit(97);
    if (options.file_size >= 0) {
      struct rlimit limit = {(rlim_t)options.file_size, (rlim_t)options.file_size};
      setrlimit(RLIMIT_FSIZE, &limit);
    }
    if (options.unread) {
      int ends[2];
      if (pipe(ends) || dup2(ends[1], 1) < 0 || close(ends[0])) _exit(95);
    }
    execv(M4N_PROGRAM, argv.data());
    _exit(98);
  }
  ~Process() {
    if (pid_ > 0) kill(pid_, SIGKILL), waitpid(pid_, nullptr, 0);
  }
  Process(const Process &) = delete;
  Process &operator=(const Process &) = delete;

  void send(int signal) { kill(pid_, signal); }

  /* Waits until standard error holds `text` that often; false if the time is over before. */
  bool says(const std::string &text, int times = 1) {
    return within([&] {
      const std::string err = slurp(files_ + "/err");
      int found = 0;
      for (size_t at = 0; (at = err.find(text, at)) != std::string::npos; at += text.size()) found++;
      return found >= times;
    });
  }

  Ended finish() {
    Ended e;
    int how;
    if (within([&] { return waitpid(pid_, &how, WNOHANG) == pid_; })) {
      e.status = WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
      pid_ = -1;
    }
    if (options_.out.empty()) e.out = slurp(files_ + "/out");
    e.err = slurp(files_ + "/err");
    return e;
  }

  static std::string slurp(const std::string &path) {
    std::ifstream in(path, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }

private:
  template <typename Condition> bool within(Condition condition) {
    for (int ms = 0; ms < options_.seconds * 1000; ms += 5) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }
  static void redirect(const std::string &path, int flags, int to) {
    int fd = open(path.c_str(), flags, 0600);
    if (fd < 0 || dup2(fd, to) < 0) _exit(96);
  }
  ProcessOptions options_;
  std::string files_;
  pid_t pid_;
};

struct Program : Ended {
  explicit Program(const std::vector<std::string> &arguments, const std::string &out_path = "")
      : Ended(Process(arguments, with_out(out_path)).finish()) {}
  Program(const std::vector<std::string> &arguments, const ProcessOptions &options)
      : Ended(Process(arguments, options).finish()) {}

private:
  static ProcessOptions with_out(const std::string &path) {
    ProcessOptions options;
    options.out = path;
    return options;
  }
};

#endif
