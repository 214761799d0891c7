/* What was built, from what and with what. */
#ifndef M4N_AGENT_VERSION_H
#define M4N_AGENT_VERSION_H

#ifdef __cplusplus
extern "C" {
#endif

extern const char m4n_version[]; /* "0.1.0" */
extern const char m4n_commit[]; /* "1a2b3c4d", with "+" behind it if the tree had changes; "" where unknown */

extern const char m4n_build[]; /* lines: the compiler, the libraries with their versions, CUDA or not */

#ifdef __cplusplus
}
#endif
#endif
