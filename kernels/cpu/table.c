/* The op table of one variant. */
#include "kernels/cpu/cpu.h"

#define M4N_TABLE M4N_PASTE(m4n_cpu_, M4N_VARIANT, _ops)

const m4n_ops M4N_TABLE = {
#define OP(name, parameters, arguments) .name = M4N_CPU(name),
#include "kernels/ops.def"
#undef OP
};
