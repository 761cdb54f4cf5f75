/* Several processes started by mpirun. */
#ifndef OAS_CLI_RANKS_H
#define OAS_CLI_RANKS_H

#include <oasis/train.h>

typedef struct cli_ranks {
    oasis_ranks ranks; /* count is 1 where nobody started several */
    void *library;
    void (*close)(oasis_ranks *ranks);
} cli_ranks;

/*
 * Has NCCL add in rings, where the environment does not say otherwise: then the order of a sum depends on the number of
 * GPUs and their wiring alone.  Before there are threads.
 */
void cli_ranks_prepare(void);

/* Fails with OASIS_E_UNSUPPORTED (built without MPI), OASIS_E_DEVICE. */
oasis_status cli_ranks_open(cli_ranks *r, oasis_message *message);
void cli_ranks_close(cli_ranks *r);

#endif
