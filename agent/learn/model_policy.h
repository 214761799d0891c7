/* Models as policies: "teacher", "student" and "expert", whose checkpoints the setup names (m4n_policy_models), and any
 * checkpoint by its file's name. Behind a name may stand how it decides, parted by colons:
 *
 *     student:stream               context: window (re-runs the last steps, as in training), stream, reset
 *     runs/x/model/student.safetensors:sample      draws its actions; else the likeliest (greedy)
 *     student:int8:target=0.9      weights f32, bf16 or int8; asks for 0.9 times the best return it was trained on
 *
 * What is drawn is named by seed and episode, so any lanes, threads and batches give the same episodes. Nothing is
 * allocated in a decision.
 */
#ifndef M4N_LEARN_MODEL_POLICY_H
#define M4N_LEARN_MODEL_POLICY_H

#include "agent/policy.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Makes them known to m4n_policy_find. Once, at the start of a program. */
void m4n_model_policies_register(void);

#ifdef __cplusplus
}
#endif
#endif
