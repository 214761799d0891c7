/* Where tests find real data and reference vectors, and where they may write.
 *
 *     M4N_NEED(m4n_data() + "/abr");        // skips with a message where it is missing
 */
#ifndef M4N_TESTS_SUPPORT_PATHS_H
#define M4N_TESTS_SUPPORT_PATHS_H

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

inline std::string m4n_env_or(const char *variable, const std::string &otherwise) {
  const char *value = getenv(variable);
  return value && *value ? value : otherwise;
}

/* Real traces, videos and jobs; the folder may be missing. */
inline std::string m4n_data() {
  return m4n_env_or("M4N_DATA", M4N_SOURCE_DIR "/../shared/data");
}

/* Reference vectors; the folder may be missing. */
inline std::string m4n_golden() {
  return m4n_env_or("M4N_GOLDEN", M4N_SOURCE_DIR "/../shared/golden");
}

/* A new empty folder, removed when the test program ends. */
inline std::string m4n_temp_dir() {
  struct folders {
    std::vector<std::string> made;
    ~folders() {
      std::error_code ignored;
      for (const std::string &path : made) std::filesystem::remove_all(path, ignored);
    }
  };
  static folders all;
  std::string path = (std::filesystem::temp_directory_path() / "m4n-test-XXXXXX").string();
  if (!mkdtemp(path.data())) abort();
  all.made.push_back(path);
  return path;
}

#define M4N_NEED(path)                                                                                       \
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "not on this machine: " << (path)

inline std::string m4n_write_file(const std::string &path, const std::string &content) {
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

inline std::string m4n_read_file(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream all;
  all << in.rdbuf();
  return all.str();
}

/* A tab-separated table with a header line. */
struct m4n_table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
  explicit m4n_table(const std::string &path) {
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) {
      std::vector<std::string> cells;
      std::stringstream text(line);
      for (std::string cell; std::getline(text, cell, '\t');) cells.push_back(cell);
      if (header.empty())
        header = cells;
      else
        rows.push_back(cells);
    }
  }
  int column(const std::string &name) const {
    for (size_t i = 0; i < header.size(); i++)
      if (header[i] == name) return (int)i;
    return -1;
  }
};

#endif
