/* The group `model`: the student `paper` (and `small`) at work, each figure beside what the machine does in the same run:
 *
 * - forward, train: floating-point operations of the backbone's matrix products, against those of one large product of
 *   float32; train-step is the same as tokens a second, optimiser included;
 * - decide-…: a decision in a stream of eight tokens, against reading the model's weights once, with as many threads.
 */
#ifndef M4N_AGENT_BENCH_MODEL_H
#define M4N_AGENT_BENCH_MODEL_H

#ifdef __cplusplus
extern "C" {
#endif

/* `device` as m4n_backend_open takes it; threads 0: one a processor. */
int m4n_bench_model(const char *device, int threads);

#ifdef __cplusplus
}
#endif
#endif
