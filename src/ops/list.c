/* The table of all ops, for tests and `oasis info`. */
#include "tensor/ops.h"

#define OAS_OP(name) extern const op oas_op_##name;
#include "ops/ops.def"
#undef OAS_OP

#define OAS_OP(name) &oas_op_##name,
const op *const oas_ops[] = {
#include "ops/ops.def"
    NULL};
#undef OAS_OP
