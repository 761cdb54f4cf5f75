/* Several processes started by mpirun. */
#ifndef OAS_CLI_RANKS_H
#define OAS_CLI_RANKS_H

#include <oasis/train.h>

typedef struct cli_ranks {
    oasis_ranks ranks; /* count is 1 where nobody started several */
    void *library;
    void (*close)(oasis_ranks *ranks);
} cli_ranks;

/* Fails with OASIS_E_UNSUPPORTED (built without MPI), OASIS_E_DEVICE. */
oasis_status cli_ranks_open(cli_ranks *r, oasis_message *message);
void cli_ranks_close(cli_ranks *r);

#endif
