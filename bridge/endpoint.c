#include "bridge/endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "kernels/base/file.h"
#include "kernels/base/status.h"

static int no_memory(void) {
  return m4n_fail(M4N_ENOMEM, "no memory for an address");
}

// The user's own folder for sockets: only its owner may enter, or a stranger could sit in the agent's place.
static int private_folder(char **folder) {
  const char *runtime = getenv("XDG_RUNTIME_DIR"), *temporary = getenv("TMPDIR");
  int n = runtime && runtime[0] == '/'
              ? asprintf(folder, "%s/mamba4net", runtime)
              : asprintf(folder, "%s/mamba4net-%ld", temporary && temporary[0] == '/' ? temporary : "/tmp",
                         (long)geteuid());
  if (n < 0) return *folder = NULL, no_memory();
  struct stat about;
  if (mkdir(*folder, 0700) && errno != EEXIST)
    return m4n_fail_at(M4N_EIO, *folder, 0, NULL, "cannot make the folder for sockets: %s", strerror(errno));
  if (lstat(*folder, &about))
    return m4n_fail_at(M4N_EIO, *folder, 0, NULL, "cannot look at the folder for sockets: %s",
                       strerror(errno));
  if (!S_ISDIR(about.st_mode) || about.st_uid != geteuid() || (about.st_mode & 077))
    return m4n_fail_at(M4N_EARG, *folder, 0, NULL,
                       "expected a folder of your own that nobody else may enter (mode 0700)");
  return M4N_OK;
}

static bool is_loopback(const char *host) {
  struct in_addr v4;
  struct in6_addr v6;
  if (inet_pton(AF_INET, host, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static bool is_port(const char *port) {
  if (!strcmp(port, "*")) return true;
  size_t digits = strspn(port, "0123456789");
  return digits > 0 && digits <= 5 && !port[digits] && atoi(port) <= 65535;
}

// "HOST:PORT" with HOST one of 127.0.0.0/8, [::1], localhost.
static int resolve_tcp(char **uri, const char *address) {
  const char *colon = strrchr(address, ':');
  if (!colon || !is_port(colon + 1))
    return m4n_fail(M4N_EARG, "endpoint 'tcp://%s': expected tcp://HOST:PORT, PORT 0 to 65535 or *", address);
  char host[64];
  size_t size = (size_t)(colon - address);
  bool bracketed = size > 2 && address[0] == '[' && address[size - 1] == ']';
  if (size < sizeof host)
    snprintf(host, sizeof host, "%.*s", (int)(bracketed ? size - 2 : size), address + bracketed);
  else
    host[0] = 0;
  if (!strcmp(host, "localhost")) snprintf(host, sizeof host, "127.0.0.1");
  if (!is_loopback(host))
    return m4n_fail(M4N_EARG,
                    "endpoint 'tcp://%s': only loopback (127.0.0.0/8, [::1], localhost) is served: anything "
                    "beyond it needs CURVE keys, and none are configured",
                    address);
  const char *form = strchr(host, ':') ? "tcp://[%s]:%s" : "tcp://%s:%s";
  return asprintf(uri, form, host, colon + 1) < 0 ? (*uri = NULL, no_memory()) : M4N_OK;
}

static int copy(char **uri, const char *text) {
  *uri = strdup(text);
  return *uri ? M4N_OK : no_memory();
}

int m4n_endpoint_resolve(char **uri, const char *endpoint) {
  *uri = NULL;
  if (!endpoint || !endpoint[0]) return m4n_fail(M4N_EARG, "no endpoint is given");
  if (!strcmp(endpoint, "inproc")) return copy(uri, "inproc://mamba4net");
  if (!strcmp(endpoint, "tcp")) return copy(uri, "tcp://127.0.0.1:5555");
  if (!strcmp(endpoint, "ipc")) {
    char *folder = NULL;
    int status = private_folder(&folder);
    if (!status && asprintf(uri, "ipc://%s/agent.sock", folder) < 0) *uri = NULL, status = no_memory();
    free(folder);
    return status;
  }
  if (!strncmp(endpoint, "tcp://", 6)) return resolve_tcp(uri, endpoint + 6);
  if (!strncmp(endpoint, "inproc://", 9) && endpoint[9]) return copy(uri, endpoint);
  if (!strncmp(endpoint, "ipc://", 6)) {
    // '@' names an abstract socket, which every user of the machine may open; '*' one that no client can name.
    const char *path = endpoint + 6;
    if (!path[0] || path[0] == '@' || path[0] == '*')
      return m4n_fail(M4N_EARG, "endpoint '%s': expected ipc:// and the path of a socket file", endpoint);
    if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path)
      return m4n_fail(M4N_EARG, "endpoint '%s': a socket's path has at most %zu bytes", endpoint,
                      sizeof((struct sockaddr_un *)0)->sun_path - 1);
    return copy(uri, endpoint);
  }
  return m4n_fail(M4N_EARG, "endpoint '%s': expected inproc, ipc, tcp, or a full URI of these", endpoint);
}

// Does anybody accept connections at this socket file?
static bool lives(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  memcpy(address.sun_path, path, strlen(path) + 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return true;
  // EAGAIN: a server that is too busy to accept. Only a refusal says that nobody is there.
  bool refused = connect(fd, (struct sockaddr *)&address, sizeof address) && errno == ECONNREFUSED;
  close(fd);
  return !refused;
}

// Two servers started together must not both find the address free: a lock on the folder lets one look at a time.
static int lock_folder(const char *path, int *lock) {
  char *folder = m4n_path_dir(path);
  if (!folder) return no_memory();
  int status = M4N_OK, fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    status = m4n_fail_at(M4N_EIO, folder, 0, NULL, "cannot open the socket's folder: %s", strerror(errno));
  for (int tries = 0; !status && flock(fd, LOCK_EX | LOCK_NB); tries++) {
    if (errno != EWOULDBLOCK && errno != EINTR) break; // a file system without locks: go on without
    if (tries == 200) status = m4n_fail_at(M4N_EBUSY, folder, 0, NULL, "another server is starting here");
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
  }
  free(folder);
  if (status && fd >= 0) close(fd), fd = -1;
  *lock = fd;
  return status;
}

int m4n_endpoint_claim(const char *uri, int *lock) {
  *lock = -1;
  if (strncmp(uri, "ipc://", 6)) return M4N_OK;
  const char *path = uri + 6;
  M4N_TRY(lock_folder(path, lock));
  struct stat about;
  int status = M4N_OK;
  if (lstat(path, &about)) {
    if (errno != ENOENT) status = m4n_fail_at(M4N_EIO, path, 0, NULL, "cannot bind: %s", strerror(errno));
  } else if (!S_ISSOCK(about.st_mode)) {
    status = m4n_fail_at(M4N_EARG, path, 0, NULL, "exists and is no socket");
  } else if (lives(path)) {
    status = m4n_fail(M4N_EBUSY, "endpoint '%s': the address is in use by a running server", uri);
  } else if (unlink(path)) {
    status = m4n_fail_at(M4N_EIO, path, 0, NULL, "cannot remove a dead socket: %s", strerror(errno));
  }
  if (status) close(*lock), *lock = -1;
  return status;
}
