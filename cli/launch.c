/* Several processes on this machine, a device each. */
#include "launch.h"

#include "cli.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STRETCH = 1 << 16 /* values that go through a socket at a time */, GRACE = 10 /* seconds */ };

/* ---- the list -------------------------------------------------------------------------------------------------------- */

oasis_status cli_devices(device_list *list, const char *text, oasis_message *message)
{
    list->count = 0;
    if (!text || !strchr(text, ','))
        return OASIS_OK;
    for (const char *at = text; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        size_t n = strcspn(at, ",");
        const char *kind = *at >= '0' && *at <= '9' ? "cuda:" : "";
        if (n == 0 || n > 16 || list->count == LAUNCH_MOST) {
            snprintf(message->text, sizeof message->text,
                     "the devices '%s' are no list such as cuda:0,1 with at most %d names", text, LAUNCH_MOST);
            return OASIS_E_ARGUMENT;
        }
        snprintf(list->name[list->count++], sizeof *list->name, "%s%.*s", kind, (int)n, at);
    }
    return OASIS_OK;
}

int cli_launch_threads(int n)
{
    cpu_set_t set;
    int usable = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return usable / n > 1 ? usable / n : 1;
}

/* ---- sockets --------------------------------------------------------------------------------------------------------- */

/* Process 0 has one to each other; the others have one to it. */
typedef struct wires {
    int rank, count;
    int to[LAUNCH_MOST];
    union {
        float floats[STRETCH];
        double doubles[STRETCH];
    } heard;
} wires;

static bool send_all(int to, const void *bytes, size_t n)
{
    const char *at = bytes;
    while (n > 0) {
        ssize_t sent = send(to, at, n, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            return false;
        at += sent > 0 ? sent : 0;
        n -= sent > 0 ? (size_t)sent : 0;
    }
    return true;
}

static bool receive_all(int from, void *bytes, size_t n)
{
    char *at = bytes;
    while (n > 0) {
        ssize_t got = recv(from, at, n, MSG_WAITALL);
        if (got == 0 || (got < 0 && errno != EINTR))
            return false;
        at += got > 0 ? got : 0;
        n -= got > 0 ? (size_t)got : 0;
    }
    return true;
}

/* What process 0 has goes to all others but one. */
static bool tell_all(const wires *w, const void *bytes, size_t n, int but)
{
    for (int r = 1; r < w->count; r++)
        if (r != but && !send_all(w->to[r], bytes, n))
            return false;
    return true;
}

/* Sums of a stretch, in the order of ranks: the same bits on all and in every run. */
static bool sum_stretch(wires *w, void *values, size_t n, size_t size)
{
    if (w->rank > 0)
        return send_all(w->to[0], values, n * size) && receive_all(w->to[0], values, n * size);
    for (int r = 1; r < w->count; r++) {
        if (!receive_all(w->to[r], &w->heard, n * size))
            return false;
        for (size_t i = 0; i < n; i++) {
            if (size == sizeof(float))
                ((float *)values)[i] += w->heard.floats[i];
            else
                ((double *)values)[i] += w->heard.doubles[i];
        }
    }
    return tell_all(w, values, n * size, 0);
}

static bool sum_all(wires *w, void *values, size_t n, size_t size)
{
    for (size_t at = 0; at < n; at += STRETCH)
        if (!sum_stretch(w, (char *)values + at * size, n - at < STRETCH ? n - at : STRETCH, size))
            return false;
    return true;
}

static bool begin_sum(void *user, float *values, size_t n)
{
    return sum_all(user, values, n, sizeof *values);
}

static bool done(void *user)
{
    (void)user;
    return true;
}

static bool sum(void *user, double *values, size_t n)
{
    return sum_all(user, values, n, sizeof *values);
}

static bool broadcast(void *user, void *bytes, size_t n, int from)
{
    const wires *w = user;
    if (w->rank > 0)
        return w->rank == from ? send_all(w->to[0], bytes, n) : receive_all(w->to[0], bytes, n);
    return (from == 0 || receive_all(w->to[from], bytes, n)) && tell_all(w, bytes, n, from);
}

static void close_wires(oasis_ranks *ranks)
{
    wires *w = ranks->user;
    for (int r = 0; w && r < w->count; r++)
        if (w->to[r] >= 0)
            close(w->to[r]);
    free(w);
    *ranks = (oasis_ranks){.count = 1};
}

/* ---- processes ------------------------------------------------------------------------------------------------------- */

typedef struct crew {
    int count;
    int end[LAUNCH_MOST][2]; /* of the sockets: process 0's and that of process r */
    pid_t pid[LAUNCH_MOST];
} crew;

static void signal_all(const crew *c, int number)
{
    for (int r = 0; r < c->count; r++)
        if (c->pid[r] > 0)
            kill(c->pid[r], number);
}

static void close_ends(const crew *c, int from)
{
    for (int r = from; r < c->count; r++) {
        close(c->end[r][0]);
        close(c->end[r][1]);
    }
}

/* In a new process: its sockets become those of its rank, the others are closed. */
static oasis_status become(cli_ranks *out, const crew *c, int rank, pid_t parent, oasis_message *message)
{
    wires *w = calloc(1, sizeof *w);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_FAILED);
    setpgid(0, 0); /* signals from the terminal come once, from the parent */
    if (!w) {
        snprintf(message->text, sizeof message->text, "no memory for process %d", rank);
        return OASIS_E_MEMORY;
    }
    w->rank = rank;
    w->count = c->count;
    w->to[0] = rank > 0 ? c->end[rank][1] : -1;
    for (int r = 1; r < c->count; r++) {
        w->to[r] = rank == 0 ? c->end[r][0] : -1;
        if (rank > 0)
            close(c->end[r][0]);
        if (r != rank)
            close(c->end[r][1]);
    }
    out->close = close_wires;
    out->ranks = (oasis_ranks){rank, c->count, w, begin_sum, done, done, sum, broadcast};
    cli_ranks_prepare();
    return OASIS_OK;
}

/* Notes how a process ended: what the first one says counts most. */
static void note_end(const device_list *list, int rank, int status, int *code)
{
    if (WIFSIGNALED(status)) {
        cli_error("process %d (%s) was ended by signal %d", rank, list->name[rank], WTERMSIG(status));
        *code = EXIT_MACHINE;
    } else if (rank == 0 || *code == EXIT_DONE) {
        *code = WEXITSTATUS(status);
    }
}

/* Takes a process that has ended off the list; false where none has. */
static bool take_ended(crew *c, int *rank, int *status)
{
    pid_t pid = waitpid(-1, status, WNOHANG);
    for (int r = 0; pid > 0 && r < c->count; r++) {
        if (c->pid[r] == pid) {
            c->pid[r] = 0;
            *rank = r;
            return true;
        }
    }
    return false;
}

/* Waits for all.  When one ends badly the others have a while to find out, and then are killed. */
static int supervise(crew *c, const device_list *list)
{
    const struct timespec moment = {0, 20000000};
    int code = EXIT_DONE, passed_on = 0, left = c->count;
    bool fails = false, killed = false;
    time_t since = 0;
    while (left > 0) {
        int status, rank;
        if (cli_signal() && !passed_on) {
            passed_on = cli_signal();
            signal_all(c, passed_on);
        }
        if (fails && !killed && time(NULL) - since > GRACE) {
            killed = true;
            signal_all(c, SIGKILL);
        }
        if (!take_ended(c, &rank, &status)) {
            nanosleep(&moment, NULL);
            continue;
        }
        left--;
        if (!killed) /* else it is no news */
            note_end(list, rank, status, &code);
        bool stopped = passed_on && WIFEXITED(status); /* as asked; process 0 may still be writing */
        if (status != 0 && !stopped && !fails) {
            fails = true;
            since = time(NULL);
        }
    }
    return code;
}

static oasis_status fail(oasis_message *message)
{
    snprintf(message->text, sizeof message->text, "processes for several devices cannot be started: %s",
             strerror(errno));
    return OASIS_E_DEVICE;
}

oasis_status cli_launch(cli_ranks *ranks, const device_list *list, int *code, oasis_message *message)
{
    crew c = {.count = 1};
    pid_t parent = getpid();
    for (; c.count < list->count; c.count++)
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, c.end[c.count]) != 0) {
            oasis_status s = fail(message);
            close_ends(&c, 1);
            return s;
        }
    fflush(NULL); /* or each process would write what is waiting */
    for (int r = 0; r < c.count; r++) {
        c.pid[r] = fork();
        if (c.pid[r] == 0)
            return become(ranks, &c, r, parent, message);
        if (c.pid[r] < 0) {
            oasis_status s = fail(message);
            c.pid[r] = 0;
            signal_all(&c, SIGKILL);
            close_ends(&c, 1);
            return s;
        }
    }
    close_ends(&c, 1);
    *code = supervise(&c, list);
    return OASIS_END;
}
