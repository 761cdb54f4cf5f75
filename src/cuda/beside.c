/* A GPU for work beside another's. */
#include "cuda/degrade.h"
#include "cuda/tables.h"

oasis_status oas_cuda_beside(oas_cuda **c, int index, oasis_message *message)
{
    OAS_TRY(oas_cuda_open(c, index, true, message));
    (*c)->tables.degrade = &oas_cuda_degrade;
    return OASIS_OK;
}
