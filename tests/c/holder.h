/* Children that hold something until they are told to let go, or are killed. */
#ifndef HOLDER_H
#define HOLDER_H

#include "check.h"

#include <sys/prctl.h>

struct holder {
    pid_t pid;
    int order;
};

/* What a child does that only stays. */
static inline void nothing(void *unused)
{
    (void)unused;
}

/* A hook that ends a call when it is called for the third time; it counts in an int. */
static inline int32_t third_time(void *calls)
{
    return ++*(int *)calls == 3;
}

/* Has the kernel end this child with its parent, and the alarm end it where it hangs. */
static inline void holder_child(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(PATIENCE_SECONDS);
}

/* Starts a child that calls `take`, and returns when it has; it calls `leave` when it is told to. */
static inline struct holder holder_start(void (*take)(void *), void (*leave)(void *), void *argument)
{
    int ready[2], order[2];
    char byte = 0;
    struct holder holder = {-1, -1};
    if (!CHECK(pipe2(ready, O_CLOEXEC) == 0 && pipe2(order, O_CLOEXEC) == 0))
        return holder;
    fflush(stdout);
    holder.pid = fork();
    if (holder.pid == 0) {
        holder_child();
        close(order[1]);
        take(argument);
        CHECK(write(ready[1], &byte, 1) == 1);
        CHECK(read(order[0], &byte, 1) == 1);
        leave(argument);
        fflush(stdout);
        _exit(0);
    }
    close(ready[1]);
    close(order[0]);
    CHECK(holder.pid > 0 && read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    holder.order = order[1];
    return holder;
}

/* Starts a child that calls `body` and ends; it is not waited for. */
static inline struct holder holder_run(void (*body)(void *), void *argument)
{
    struct holder holder = {-1, -1};
    fflush(stdout);
    holder.pid = fork();
    if (holder.pid == 0) {
        holder_child();
        body(argument);
        fflush(stdout);
        _exit(0);
    }
    CHECK(holder.pid > 0);
    return holder;
}

/* Waits for its end and returns it, as waitpid(2) tells. */
static inline int holder_end(struct holder holder)
{
    int status = -1;
    CHECK(waitpid(holder.pid, &status, 0) == holder.pid);
    if (holder.order >= 0)
        close(holder.order);
    return status;
}

/* Tells it to let go, and waits for its end. */
static inline void holder_leave(struct holder holder)
{
    CHECK(write(holder.order, "", 1) == 1);
    CHECK(holder_end(holder) == 0);
}

/* Kills it where it stands. */
static inline void holder_kill(struct holder holder)
{
    CHECK(kill(holder.pid, SIGKILL) == 0);
    CHECK(holder_end(holder) == SIGKILL);
}

#endif
