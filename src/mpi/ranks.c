/*
 * Ranks over MPI.
 *
 * Sums of gradients are MPI_Iallreduce on ranges that all ranks begin in the same order.  Their bits are the same in every
 * run: Open MPI chooses how to add by the sizes of range and communicator alone, and every algorithm for all ranks adds
 * once and hands the result out, or adds in an order that differs by commutation only.
 */
#include <oasis/mpi.h>

#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST_REQUESTS = 128, MOST_BYTES = 1 << 30, MOST_LOOKS = 100000 };

typedef struct transport {
    MPI_Comm comm;
    bool started; /* by us */
    int pending;
    MPI_Request request[MOST_REQUESTS];
} transport;

/*
 * Waits.  Data moves only while somebody looks, so it looks on, but lets threads that make clips go first; after a while
 * another rank must be far behind, and it looks now and then.
 */
static bool finish(void *user)
{
    transport *t = user;
    const struct timespec moment = {0, 50000};
    for (int done = t->pending == 0, looks = 0; !done; looks++) {
        if (MPI_Testall(t->pending, t->request, &done, MPI_STATUSES_IGNORE) != MPI_SUCCESS)
            return false;
        if (!done && looks < MOST_LOOKS)
            sched_yield();
        else if (!done)
            nanosleep(&moment, NULL);
    }
    t->pending = 0;
    return true;
}

static bool begin_sum(void *user, float *values, size_t n)
{
    transport *t = user;
    if (t->pending == MOST_REQUESTS && !finish(t))
        return false;
    return MPI_Iallreduce(MPI_IN_PLACE, values, (int)n, MPI_FLOAT, MPI_SUM, t->comm, &t->request[t->pending++]) ==
           MPI_SUCCESS;
}

static bool advance(void *user)
{
    transport *t = user;
    int done;
    return MPI_Testall(t->pending, t->request, &done, MPI_STATUSES_IGNORE) == MPI_SUCCESS && (!done || finish(t));
}

/* The same without waiting in MPI, which would keep the processor busy until the slowest rank comes. */
static bool sum(void *user, double *values, size_t n)
{
    transport *t = user;
    if (!finish(t))
        return false;
    t->pending = 1;
    return MPI_Iallreduce(MPI_IN_PLACE, values, (int)n, MPI_DOUBLE, MPI_SUM, t->comm, t->request) == MPI_SUCCESS &&
           finish(t);
}

static bool broadcast(void *user, void *bytes, size_t n, int from)
{
    transport *t = user;
    for (size_t at = 0; at < n; at += MOST_BYTES) {
        size_t left = n - at;
        if (!finish(t))
            return false;
        t->pending = 1;
        if (MPI_Ibcast((char *)bytes + at, (int)(left < MOST_BYTES ? left : MOST_BYTES), MPI_BYTE, from, t->comm,
                       t->request) != MPI_SUCCESS)
            return false;
    }
    return finish(t);
}

static oasis_status fail(transport *t, oasis_status status, const char *what, oasis_message *message)
{
    if (message)
        snprintf(message->text, sizeof message->text, "%s; mpirun starts processes that belong together", what);
    free(t);
    return status;
}

oasis_status oasis_mpi_open(oasis_ranks *ranks, oasis_message *message)
{
    transport *t = calloc(1, sizeof *t);
    int is_started = 0, level = MPI_THREAD_FUNNELED;
    *ranks = (oasis_ranks){.count = 1};
    if (!t)
        return fail(t, OASIS_E_MEMORY, "no memory for MPI", message);
    MPI_Initialized(&is_started);
    if (!is_started && MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS)
        return fail(t, OASIS_E_DEVICE, "MPI does not start", message);
    t->started = !is_started;
    if (level < MPI_THREAD_FUNNELED || MPI_Comm_dup(MPI_COMM_WORLD, &t->comm) != MPI_SUCCESS)
        return fail(t, OASIS_E_DEVICE, "this MPI works with one thread in a process only", message);
    MPI_Comm_set_errhandler(t->comm, MPI_ERRORS_RETURN);
    *ranks = (oasis_ranks){.user = t, .begin_sum = begin_sum, .advance = advance, .finish = finish, .sum = sum};
    ranks->broadcast = broadcast;
    MPI_Comm_rank(t->comm, &ranks->rank);
    MPI_Comm_size(t->comm, &ranks->count);
    return OASIS_OK;
}

void oasis_mpi_close(oasis_ranks *ranks)
{
    transport *t = ranks->user;
    if (!t)
        return;
    finish(t);
    MPI_Comm_free(&t->comm);
    if (t->started)
        MPI_Finalize();
    free(t);
    *ranks = (oasis_ranks){.count = 1};
}
