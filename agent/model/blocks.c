#include "agent/model/block.h"

const m4n_block_kind *const m4n_block_kinds[] = {
    &m4n_attention_block, &m4n_mamba_block, &m4n_mamba1_block, &m4n_ffn_block, &m4n_norm_block, NULL,
};
