/* The expert: a small network trained by PPO in the simulator, over the bridge like everything else. It is where good experience comes
 * from (the role of Genet's policy in NetLLM), beside the offline optimum's labels; it is not the paper's method and is named so.
 *
 * The trainer is an owner of the bridge's server: it acts, remembers what came of it, and after every `horizon` decisions a lane updates the
 * network while the simulator waits. Any simulator on the bridge can be learned from.
 *
 *     m4n_expert *expert;
 *     M4N_TRY(m4n_expert_open(&expert, &options, stream));
 *     m4n_server_owner owner = m4n_expert_owner(expert);
 *     int status = m4n_server_run(server, &owner, stop);            // until all steps are done
 *     M4N_TRY(m4n_expert_close(expert, status));                    // the checkpoint is written
 *
 * Results depend on the options (the lanes among them) and the seed, not on threads or transport, nor on how often the training was
 * killed and resumed. Options that differ from those of the run in `work` are refused (EARG).
 */
#ifndef M4N_LEARN_EXPERT_H
#define M4N_LEARN_EXPERT_H

#include "agent/learn/expert_options.h"
#include "agent/learn/features.h"
#include "bridge/server.h"
#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Values to begin with; no checkpoint, no folder. */
m4n_expert_options m4n_expert_defaults(void);

typedef struct m4n_expert m4n_expert;
int m4n_expert_open(m4n_expert **expert, const m4n_expert_options *options, m4n_stream *stream);
m4n_server_owner m4n_expert_owner(m4n_expert *expert);
/* `status`: how serving ended. Writes the checkpoint if all steps were done. */
int m4n_expert_close(m4n_expert *expert, int status);

#ifdef __cplusplus
}
#endif
#endif
