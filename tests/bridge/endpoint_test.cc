// Addresses: what they stand for, what is refused, and whose socket file it is.
#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "bridge/endpoint.h"
#include "bridge/server.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "tests/support/paths.h"

namespace {

std::string resolve(const std::string &endpoint) {
  char *uri = nullptr;
  int status = m4n_endpoint_resolve(&uri, endpoint.c_str());
  std::string text = status ? std::string("! ") + m4n_error_message() : uri;
  EXPECT_EQ(uri == nullptr, status != 0);
  free(uri);
  return text;
}

int open_and_close(const std::string &endpoint) {
  m4n_server_options options = {};
  options.endpoint = endpoint.c_str();
  options.slots = 1;
  m4n_server *server;
  int status = m4n_server_open(&server, &options);
  m4n_server_close(server);
  return status;
}

class Folders : public testing::Test { // the environment is as it was afterwards
protected:
  void SetUp() override {
    for (const char *name : {"XDG_RUNTIME_DIR", "TMPDIR"}) {
      const char *value = getenv(name);
      before_.push_back({name, value ? value : ""});
    }
  }
  void TearDown() override {
    for (auto &[name, value] : before_)
      if (value.empty())
        unsetenv(name.c_str());
      else
        setenv(name.c_str(), value.c_str(), 1);
  }

private:
  std::vector<std::pair<std::string, std::string>> before_;
};

} // namespace

TEST(Endpoint, ShortNamesAndUris) {
  EXPECT_EQ(resolve("inproc"), "inproc://mamba4net");
  EXPECT_EQ(resolve("tcp"), "tcp://127.0.0.1:5555");
  EXPECT_EQ(resolve("inproc://x"), "inproc://x");
  EXPECT_EQ(resolve("ipc:///run/x.sock"), "ipc:///run/x.sock");
  EXPECT_EQ(resolve("tcp://localhost:80"), "tcp://127.0.0.1:80");
  EXPECT_EQ(resolve("tcp://127.9.9.9:*"), "tcp://127.9.9.9:*");
  EXPECT_EQ(resolve("tcp://[::1]:5"), "tcp://[::1]:5");
  EXPECT_EQ(resolve("tcp://::1:5"), "tcp://[::1]:5");
}

TEST(Endpoint, BeyondLoopbackIsRefused) {
  for (const char *endpoint :
       {"tcp://0.0.0.0:5555", "tcp://*:5555", "tcp://192.168.1.4:5555", "tcp://example.org:5555",
        "tcp://128.0.0.1:5", "tcp://[::]:5", "tcp://[::ffff:10.0.0.1]:5", "tcp://eth0:5",
        "tcp://127.0.0.1;10.0.0.1:5", "tcp://127.0.0.1:0;10.0.0.1:5", "tcp://:5", "tcp://127.1:5",
        "tcp://localhost.example.org:5"}) {
    const std::string text = resolve(endpoint);
    EXPECT_NE(text.find("only loopback"), std::string::npos) << text;
    EXPECT_NE(text.find("CURVE"), std::string::npos) << text;
    EXPECT_EQ(open_and_close(endpoint), M4N_EARG);
  }
}

TEST(Endpoint, NonsenseIsRefused) {
  for (const char *endpoint :
       {"", "ipc://", "ipc://@everybody", "ipc://*", "inproc://", "udp://127.0.0.1:5", "tcp://127.0.0.1",
        "tcp://127.0.0.1:65536", "tcp://127.0.0.1:x", "tcp://127.0.0.1:-1", "tcp://127.0.0.1:", "somewhere"})
    EXPECT_EQ(resolve(endpoint)[0], '!') << endpoint;
  EXPECT_NE(resolve("ipc://" + std::string(108, 'x')).find("at most 107 bytes"), std::string::npos);
}

TEST_F(Folders, TheUsersOwnIsMadePrivateAndChecked) {
  const std::string folder = m4n_temp_dir();
  setenv("XDG_RUNTIME_DIR", folder.c_str(), 1);
  EXPECT_EQ(resolve("ipc"), "ipc://" + folder + "/mamba4net/agent.sock");
  struct stat about;
  ASSERT_EQ(stat((folder + "/mamba4net").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0700u);
  EXPECT_EQ(open_and_close("ipc"), 0) << m4n_error_message();

  chmod((folder + "/mamba4net").c_str(), 0750);
  EXPECT_NE(resolve("ipc").find("nobody else may enter"), std::string::npos);
  EXPECT_EQ(open_and_close("ipc"), M4N_EARG);

  unsetenv("XDG_RUNTIME_DIR");
  setenv("TMPDIR", folder.c_str(), 1);
  const std::string mine = folder + "/mamba4net-" + std::to_string(geteuid());
  EXPECT_EQ(resolve("ipc"), "ipc://" + mine + "/agent.sock");

  // A link that somebody put there leads who knows where.
  rmdir(mine.c_str());
  ASSERT_EQ(symlink(folder.c_str(), mine.c_str()), 0);
  EXPECT_EQ(resolve("ipc")[0], '!');
  setenv("TMPDIR", (folder + "/missing").c_str(), 1);
  EXPECT_EQ(resolve("ipc")[0], '!');
}

TEST(SocketFile, ALivingServersIsInUseAndADeadOnesIsReplaced) {
  const std::string path = m4n_temp_dir() + "/a.sock", endpoint = "ipc://" + path;
  m4n_server_options options = {};
  options.endpoint = endpoint.c_str();
  options.slots = 1;
  m4n_server *first, *second;
  ASSERT_EQ(m4n_server_open(&first, &options), 0) << m4n_error_message();
  EXPECT_EQ(m4n_server_open(&second, &options), M4N_EBUSY);
  EXPECT_NE(std::string(m4n_error_message()).find("in use"), std::string::npos);
  EXPECT_EQ(second, nullptr);
  m4n_server_close(first);
  EXPECT_FALSE(m4n_exists(path.c_str()));

  // A server that was killed leaves its file.
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ASSERT_EQ(bind(fd, (sockaddr *)&address, sizeof address), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  EXPECT_EQ(open_and_close(endpoint), M4N_EBUSY);
  close(fd);
  ASSERT_TRUE(m4n_exists(path.c_str()));
  EXPECT_EQ(open_and_close(endpoint), 0) << m4n_error_message();

  // What is no socket is somebody's work.
  m4n_write_file(path, "precious");
  EXPECT_EQ(open_and_close(endpoint), M4N_EARG);
  EXPECT_EQ(m4n_read_file(path), "precious");
  EXPECT_EQ(open_and_close("ipc:///nowhere/at/all.sock"), M4N_EIO);
}

TEST(SocketFile, ATcpPortThatIsTakenIsInUse) {
  m4n_server_options options = {};
  options.endpoint = "tcp://127.0.0.1:*";
  options.slots = 1;
  m4n_server *server;
  ASSERT_EQ(m4n_server_open(&server, &options), 0) << m4n_error_message();
  const std::string found = m4n_server_endpoint(server);
  EXPECT_EQ(found.find('*'), std::string::npos);
  EXPECT_EQ(open_and_close(found), M4N_EBUSY);
  m4n_server_close(server);
  EXPECT_EQ(open_and_close(found), 0);
}
