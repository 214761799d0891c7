/* Where tests find real data and reference vectors, and where they may write.
 *
 *     if (!m4n_exists(m4n_data().c_str())) GTEST_SKIP() << "no data at " << m4n_data();
 */
#ifndef M4N_TESTS_SUPPORT_PATHS_H
#define M4N_TESTS_SUPPORT_PATHS_H

#include <stdlib.h>

#include <filesystem>
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

#endif
