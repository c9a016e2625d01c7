/* Child processes that hold an object until the test has them release it, or kills them. */
#ifndef HOLDER_H
#define HOLDER_H

#include "check.h"

#include <sys/prctl.h>

struct holder {
    pid_t pid;
    /* The pipe end that commands the release, or -1. */
    int command;
};

/* For a child that has nothing to do at this step. */
static inline void do_nothing(void *unused)
{
    (void)unused;
}

/* An interrupt hook that ends a call at its third invocation. Its argument is an int that counts them. */
static inline int32_t interrupt_third_call(void *calls)
{
    return ++*(int *)calls == 3;
}

/* Makes this child end with its parent, and after the deadline if it hangs. */
static inline void holder_set_up_child(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(DEADLINE_SECONDS);
}

/* Starts a child that calls `acquire`, and returns after that call. The child calls `release` on holder_finish. */
static inline struct holder holder_start(void (*acquire)(void *), void (*release)(void *), void *argument)
{
    int ready[2], command[2];
    char byte = 0;
    struct holder holder = {-1, -1};
    if (!CHECK(pipe2(ready, O_CLOEXEC) == 0 && pipe2(command, O_CLOEXEC) == 0))
        return holder;
    fflush(stdout);
    holder.pid = fork();
    if (holder.pid == 0) {
        holder_set_up_child();
        close(command[1]);
        acquire(argument);
        CHECK(write(ready[1], &byte, 1) == 1);
        CHECK(read(command[0], &byte, 1) == 1);
        release(argument);
        fflush(stdout);
        _exit(0);
    }
    close(ready[1]);
    close(command[0]);
    CHECK(holder.pid > 0 && read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    holder.command = command[1];
    return holder;
}

/* Starts a child that calls `body` and ends, and returns at once. */
static inline struct holder holder_run(void (*body)(void *), void *argument)
{
    struct holder holder = {-1, -1};
    fflush(stdout);
    holder.pid = fork();
    if (holder.pid == 0) {
        holder_set_up_child();
        body(argument);
        fflush(stdout);
        _exit(0);
    }
    CHECK(holder.pid > 0);
    return holder;
}

/* Waits until the child has ended, and returns its wait status (waitpid(2)). */
static inline int holder_end(struct holder holder)
{
    int status = -1;
    CHECK(waitpid(holder.pid, &status, 0) == holder.pid);
    if (holder.command >= 0)
        close(holder.command);
    return status;
}

/* Has the child call its `release` function, and checks that it exits with 0. */
static inline void holder_finish(struct holder holder)
{
    CHECK(write(holder.command, "", 1) == 1);
    CHECK(holder_end(holder) == 0);
}

/* Kills the child with SIGKILL, and waits until it has ended. */
static inline void holder_kill(struct holder holder)
{
    CHECK(kill(holder.pid, SIGKILL) == 0);
    CHECK(holder_end(holder) == SIGKILL);
}

#endif
