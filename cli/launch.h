/*
 * Several processes without MPI: one for each device of a list, on this machine.
 *
 * The first process forks them before anything else has begun (no threads, no GPU), waits for them, passes signals on, and
 * ends the others when one ends badly.  What they tell each other goes over sockets through process 0.
 */
#ifndef OAS_CLI_LAUNCH_H
#define OAS_CLI_LAUNCH_H

#include "ranks.h"

enum { LAUNCH_MOST = 64 };

/* A list of devices: "cuda:0,1,3" or "cpu,cpu": cut at commas, a number alone stands for a GPU. */
typedef struct device_list {
    int count; /* 0: no list */
    char name[LAUNCH_MOST][32];
} device_list;

/* Fails with OASIS_E_ARGUMENT: more than LAUNCH_MOST, or a name that is empty or too long.  text NULL: no list. */
oasis_status cli_devices(device_list *list, const char *text, oasis_message *message);

/*
 * Starts a process for each device.  In these: OASIS_OK, with `ranks` between them, whose `rank` says which device is
 * theirs.  In the calling process: OASIS_END after all have ended, and *code is what to end with.  Fails with
 * OASIS_E_DEVICE where processes cannot be started.
 */
oasis_status cli_launch(cli_ranks *ranks, const device_list *list, int *code, oasis_message *message);

/* What a process of n may use of this machine's processors: at least 1. */
int cli_launch_threads(int n);

#endif
