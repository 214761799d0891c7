#include <stddef.h>
#include <string.h>

#include "sim/env.h"

// THE list of tasks: a task is one exported symbol, and this line is all that the rest of the program needs of it.
#define M4N_TASK_LIST(X)                                                                                     \
  X(abr)                                                                                                     \
  X(null)

#define M4N_TASK_EXTERN(name) extern const m4n_task m4n_task_##name;
M4N_TASK_LIST(M4N_TASK_EXTERN)

static const m4n_task *const tasks[] = {
#define M4N_TASK_ENTRY(name) &m4n_task_##name,
    M4N_TASK_LIST(M4N_TASK_ENTRY)};

const m4n_task *m4n_task_at(int index) {
  return index >= 0 && (size_t)index < sizeof tasks / sizeof *tasks ? tasks[index] : NULL;
}

const m4n_task *m4n_task_find(const char *name) {
  for (int i = 0; m4n_task_at(i); i++)
    if (!strcmp(tasks[i]->name, name)) return tasks[i];
  return NULL;
}
