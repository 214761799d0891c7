/* Files: read by mapping, written whole or not at all, folders listed in byte order. */
#ifndef M4N_BASE_FILE_H
#define M4N_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A file mapped read-only. `data` is NULL for an empty file. */
typedef struct m4n_map {
  const uint8_t *data;
  size_t size;
} m4n_map;

/* Maps `path`; refuses folders, devices and files of more than `max_size` bytes (EFORMAT). ENOTFOUND, EIO. */
int m4n_map_open(m4n_map *map, const char *path, size_t max_size);
void m4n_map_close(m4n_map *map); /* also on a zeroed map */

/* A file that appears under its name only when it is complete.
 *
 *     m4n_writer w;
 *     M4N_TRY(m4n_writer_open(&w, "summary.json"));
 *     fprintf(w.stream, ...);
 *     M4N_TRY(m4n_writer_commit(&w));     // a full disk is an error here, and nothing is left behind
 */
typedef struct m4n_writer {
  FILE *stream;
  char *path, *temporary;
} m4n_writer;

int m4n_writer_open(m4n_writer *writer, const char *path);
int m4n_writer_commit(m4n_writer *writer); /* flush, sync, rename; on failure as abort */
void m4n_writer_abort(m4n_writer *writer); /* removes the temporary file; harmless after commit */

/* Names in `path`, sorted by bytes, without "." and ".." and hidden ones. Free with m4n_names_free. */
typedef struct m4n_names {
  char **name;
  int count;
} m4n_names;
int m4n_list_dir(m4n_names *names, const char *path);
void m4n_names_free(m4n_names *names);

int m4n_mkdirs(const char *path); /* like mkdir -p */
int m4n_remove_tree(
    const char *path); /* a file, or a folder with all that is in it; what is not there is no error */
bool m4n_is_dir(const char *path);
bool m4n_exists(const char *path);

/* "a/b" in memory of the caller's, who frees it; `b` absolute gives `b`. NULL on lack of memory. */
char *m4n_path_join(const char *a, const char *b);
/* The folder of `path` ("." where it names none), to be freed. */
char *m4n_path_dir(const char *path);
/* The part after the last '/', inside `path`. */
const char *m4n_path_base(const char *path);

#ifdef __cplusplus
}
#endif
#endif
