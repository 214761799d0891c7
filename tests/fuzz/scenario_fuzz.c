// Scenario files of strangers: any bytes are read or refused, and what is read writes out to something that reads
// again. What follows a line "%%" is taken as --set.
#include <stdlib.h>
#include <string.h>

#include "agent/scenario.h"
#include "kernels/base/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const char *text = (const char *)data;
  char *set = NULL;
  const char *mark = size > 3 ? memmem(text, size, "\n%%", 3) : NULL;
  if (mark) {
    set = strndup(mark + 3, size - (size_t)(mark + 3 - text));
    size = (size_t)(mark + 1 - text);
  }
  m4n_scenario *first, *second;
  if (!m4n_scenario_parse(&first, "fuzz.yaml", text, size, (const char *const *)&set, set != NULL)) {
    if (m4n_scenario_parse(&second, "fuzz.yaml", first->resolved, strlen(first->resolved), NULL, 0)) abort();
    if (strcmp(first->resolved, second->resolved)) abort();
    m4n_scenario_free(second);
    m4n_scenario_free(first);
  } else if (!m4n_last_error()->text[0]) {
    abort(); // refused without a word
  }
  free(set);
  return 0;
}
