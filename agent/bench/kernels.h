/* The group `kernels`: time and rate of every op at the sizes of the `paper` student (B = 8, L = 160, d = 512), each
 * beside what the machine does in the same run:
 *
 * - products of matrices: the library called directly, each thread with a share of the rows, nothing around it; on a card
 *   one large square product of the same weights;
 * - scans: bare exponentials, one a state and step;
 * - attention: the same multiplications and additions as a product of matrices;
 * - all others: a copy of as many bytes as the op must read and write.
 */
#ifndef M4N_AGENT_BENCH_KERNELS_H
#define M4N_AGENT_BENCH_KERNELS_H

#ifdef __cplusplus
extern "C" {
#endif

/* `device` as m4n_backend_open takes it; threads 0: one a processor. */
int m4n_bench_kernels(const char *device, int threads);

#ifdef __cplusplus
}
#endif
#endif
