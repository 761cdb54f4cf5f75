/*
 * The processes that mpirun started: liboasis-mpi is loaded where a launcher's environment says that there are several,
 * so that everything else does without MPI.
 */
#include "ranks.h"

#include <dlfcn.h>
#include <oasis/mpi.h>
#include <stdio.h>
#include <stdlib.h>

/* Set by Open MPI, by launchers that speak PMI (MPICH, Slurm), by PMIx. */
static bool is_launched(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMI_SIZE") || getenv("PMIX_RANK");
}

void cli_ranks_prepare(void)
{
    setenv("NCCL_ALGO", "Ring", 0);
    setenv("NCCL_NVLS_ENABLE", "0", 0); /* which rings do not use */
}

oasis_status cli_ranks_open(cli_ranks *r, oasis_message *message)
{
    oasis_status (*open)(oasis_ranks *, oasis_message *) = NULL;
    *r = (cli_ranks){.ranks = {.count = 1}};
    if (!is_launched())
        return OASIS_OK;
    cli_ranks_prepare();
    r->library = dlopen("liboasis-mpi.so.0", RTLD_NOW | RTLD_GLOBAL);
    if (r->library) {
        *(void **)&open = dlsym(r->library, "oasis_mpi_open");
        *(void **)&r->close = dlsym(r->library, "oasis_mpi_close");
    }
    if (open && r->close)
        return open(&r->ranks, message);
    snprintf(message->text, sizeof message->text,
             "several processes were started, but this oasis has no liboasis-mpi: install libopenmpi-dev and build it "
             "again");
    return OASIS_E_UNSUPPORTED;
}

void cli_ranks_close(cli_ranks *r)
{
    if (r->close)
        r->close(&r->ranks);
    /* The library stays: MPI's own threads and handlers may outlive the calls. */
}
