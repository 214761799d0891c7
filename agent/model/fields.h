/* How a block turns its one list of parameters into struct members and into declarations.
 *
 *     #define PARAMETERS(VECTOR, PRODUCT)                                                      \
 *       VECTOR(norm, "input_layernorm.weight", m4n_start_at(1), d)                             \
 *       PRODUCT(o, heads *head_dim, 0, {"self_attn.o_proj", d, init})
 *
 *     struct attention { m4n_block base; M4N_FIELDS(PARAMETERS) … };
 *     M4N_DECLARE(PARAMETERS)                    // inside declare(), where `at` and the block `b` are in scope
 *
 * VECTOR(member, name, start, dimensions…): an array with the shape that files give it. PRODUCT(member, columns of the
 * input, row distance of the input or 0, rows…): one matrix product, see linear.h.
 */
#ifndef M4N_MODEL_FIELDS_H
#define M4N_MODEL_FIELDS_H

#include "agent/model/linear.h"

#define M4N_FIELD_VECTOR(member, name, start, ...) m4n_weight *member;
#define M4N_FIELD_PRODUCT(member, in, x_distance, ...) m4n_dense member;
#define M4N_FIELDS(LIST) LIST(M4N_FIELD_VECTOR, M4N_FIELD_PRODUCT)

#define M4N_COUNT(type, ...) ((int)(sizeof((const type[]){__VA_ARGS__}) / sizeof(type)))
#define M4N_DECLARE_VECTOR(member, name, start, ...)                                                         \
  M4N_TRY(m4n_declare_array(at, &b->member, name, M4N_COUNT(int64_t, __VA_ARGS__),                           \
                            (const int64_t[]){__VA_ARGS__}, start));
#define M4N_DECLARE_PRODUCT(member, in, x_distance, ...)                                                     \
  M4N_TRY(m4n_dense_declare(at, &b->member, in, x_distance, 0, (const m4n_rows[]){__VA_ARGS__},              \
                            M4N_COUNT(m4n_rows, __VA_ARGS__)));
#define M4N_DECLARE(LIST) LIST(M4N_DECLARE_VECTOR, M4N_DECLARE_PRODUCT)

#endif
