/* What tests of locks of either kind call: included where NOUN is `lock` or `rlock`. */
#ifndef LOCKS_H
#define LOCKS_H

#include "holder.h"

#include <pthread.h>
#include <sched.h>

#define JOIN_NOW(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_NOW(a, b, c)
#define LOCK JOIN(shmkit_, NOUN, )
#define CALL(verb) JOIN(shmkit_, NOUN, _##verb)

static shmkit_lock_info told(const LOCK *lock)
{
    shmkit_lock_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_OK, CALL(stat)(lock, &info));
    CHECK(info.struct_size == sizeof info && info.reserved == 0);
    return info;
}

static void take(void *lock)
{
    uint32_t recovered = 7;
    STATUS(SHMKIT_OK, CALL(acquire)(lock, SHMKIT_FOREVER, 0, &recovered));
    CHECK(recovered == 0);
}

static void give(void *lock)
{
    STATUS(SHMKIT_OK, CALL(release)(lock));
}

/* Waits until somebody sleeps on the lock. */
static inline void await_sleeper(const LOCK *lock)
{
    while (told(lock).contended_since == 0)
        sched_yield();
}

#endif
