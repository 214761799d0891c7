#include "kernels/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/base/status.h"

static int system_failure(const char *path, const char *what) {
  int status = errno == ENOENT ? M4N_ENOTFOUND : errno == ENOMEM ? M4N_ENOMEM : M4N_EIO;
  return m4n_fail_at(status, path, 0, NULL, "%s: %s", what, strerror(errno));
}

int m4n_map_open(m4n_map *map, const char *path, size_t max_size) {
  *map = (m4n_map){0};
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a fifo must not block us
  if (fd < 0) return system_failure(path, "cannot open");
  struct stat about;
  int status = M4N_OK;
  if (fstat(fd, &about)) {
    status = system_failure(path, "cannot read");
  } else if (!S_ISREG(about.st_mode)) {
    status = m4n_fail_at(M4N_EFORMAT, path, 0, NULL, "expected a regular file");
  } else if ((uint64_t)about.st_size > max_size) {
    status = m4n_fail_at(M4N_EFORMAT, path, 0, NULL, "%lld bytes, at most %zu are accepted",
                         (long long)about.st_size, max_size);
  } else if (about.st_size > 0) {
    void *data = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
      status = system_failure(path, "cannot map");
    else
      *map = (m4n_map){data, (size_t)about.st_size};
  }
  close(fd);
  return status;
}

void m4n_map_close(m4n_map *map) {
  if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
  *map = (m4n_map){0};
}

int m4n_writer_open(m4n_writer *writer, const char *path) {
  *writer = (m4n_writer){0};
  size_t size = strlen(path) + 32;
  writer->path = strdup(path);
  writer->temporary = malloc(size);
  if (!writer->path || !writer->temporary) {
    m4n_writer_abort(writer);
    return m4n_fail(M4N_ENOMEM, "no memory for a file's name");
  }
  // Hidden, so that nobody who lists the folder takes it for a finished file.
  const char *base = m4n_path_base(path);
  snprintf(writer->temporary, size, "%.*s.%s.part-%ld", (int)(base - path), path, base, (long)getpid());
  writer->stream = fopen(writer->temporary, "wbe");
  if (!writer->stream) {
    int status = system_failure(path, "cannot write");
    free(writer->temporary);
    writer->temporary = NULL;
    m4n_writer_abort(writer);
    return status;
  }
  return M4N_OK;
}

int m4n_writer_commit(m4n_writer *writer) {
  bool failed = ferror(writer->stream) || fflush(writer->stream) || fsync(fileno(writer->stream));
  int reason = errno;
  failed |= fclose(writer->stream) != 0;
  if (!reason) reason = errno;
  writer->stream = NULL;
  if (!failed && rename(writer->temporary, writer->path) == 0) {
    free(writer->temporary);
    writer->temporary = NULL;
    m4n_writer_abort(writer);
    return M4N_OK;
  }
  if (!failed) reason = errno;
  int status = m4n_fail_at(M4N_EIO, writer->path, 0, NULL, "cannot write: %s", strerror(reason));
  m4n_writer_abort(writer);
  return status;
}

void m4n_writer_abort(m4n_writer *writer) {
  if (writer->stream) fclose(writer->stream);
  if (writer->temporary) unlink(writer->temporary);
  free(writer->temporary);
  free(writer->path);
  *writer = (m4n_writer){0};
}

static int by_bytes(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

int m4n_list_dir(m4n_names *names, const char *path) {
  *names = (m4n_names){0};
  DIR *dir = opendir(path);
  if (!dir) return system_failure(path, "cannot list");
  int room = 0;
  for (struct dirent *entry; (entry = readdir(dir));) {
    if (entry->d_name[0] == '.') continue;
    if (names->count == room) {
      room = room ? 2 * room : 64;
      char **more = realloc(names->name, (size_t)room * sizeof *more);
      if (!more) goto no_memory;
      names->name = more;
    }
    if (!(names->name[names->count] = strdup(entry->d_name))) goto no_memory;
    names->count++;
  }
  closedir(dir);
  if (names->count) qsort(names->name, (size_t)names->count, sizeof *names->name, by_bytes);
  return M4N_OK;
no_memory:
  closedir(dir);
  m4n_names_free(names);
  return m4n_fail(M4N_ENOMEM, "no memory for the names in %s", path);
}

void m4n_names_free(m4n_names *names) {
  for (int i = 0; i < names->count; i++) free(names->name[i]);
  free(names->name);
  *names = (m4n_names){0};
}

int m4n_mkdirs(const char *path) {
  char *copy = strdup(path);
  if (!copy) return m4n_fail(M4N_ENOMEM, "no memory for a path");
  int status = M4N_OK;
  for (char *at = copy + 1; !status; at++) {
    if (*at && *at != '/') continue;
    char kept = *at;
    *at = 0;
    if (mkdir(copy, 0777) && errno != EEXIST) status = system_failure(copy, "cannot make the folder");
    if (!kept) break;
    *at = kept;
  }
  if (!status && !m4n_is_dir(path)) status = m4n_fail_at(M4N_EIO, path, 0, NULL, "is not a folder");
  free(copy);
  return status;
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *where) {
  (void)about, (void)kind, (void)where;
  return remove(path) && errno != ENOENT;
}

int m4n_remove_tree(const char *path) {
  if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) && errno != ENOENT)
    return system_failure(path, "cannot remove");
  return M4N_OK;
}

bool m4n_is_dir(const char *path) {
  struct stat about;
  return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

bool m4n_exists(const char *path) {
  return access(path, F_OK) == 0;
}

char *m4n_path_join(const char *a, const char *b) {
  if (b[0] == '/' || !a[0]) return strdup(b);
  size_t size = strlen(a) + strlen(b) + 2;
  char *path = malloc(size);
  if (path) snprintf(path, size, "%s%s%s", a, a[strlen(a) - 1] == '/' ? "" : "/", b);
  return path;
}

char *m4n_path_dir(const char *path) {
  const char *slash = strrchr(path, '/');
  if (!slash) return strdup(".");
  return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

const char *m4n_path_base(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}
