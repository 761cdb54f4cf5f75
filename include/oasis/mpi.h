/*
 * Ranks over MPI: liboasis-mpi, a library of its own, so that liboasis and the program do without MPI.
 *
 *     oasis_ranks ranks;
 *     if (oasis_mpi_open(&ranks, &why) == OASIS_OK) {    // in every process that mpirun started
 *         options.ranks = &ranks;
 *         ...
 *         oasis_mpi_close(&ranks);
 *     }
 */
#ifndef OASIS_MPI_H
#define OASIS_MPI_H

#include <oasis/train.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Starts MPI unless the process has done so (MPI_THREAD_FUNNELED), and fills `ranks` with all processes of
 * MPI_COMM_WORLD.  Fails with OASIS_E_DEVICE, OASIS_E_MEMORY.
 */
OASIS_API oasis_status oasis_mpi_open(oasis_ranks *ranks, oasis_message *message);

/* Waits for all ranks, and ends MPI where oasis_mpi_open has started it.  Accepts zeroed ranks. */
OASIS_API void oasis_mpi_close(oasis_ranks *ranks);

#ifdef __cplusplus
}
#endif
#endif
