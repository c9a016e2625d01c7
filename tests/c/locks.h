/* Helpers for the tests of locks and recursive locks. Define NOUN as `lock` or `rlock` before including this file. */
#ifndef LOCKS_H
#define LOCKS_H

#include "holder.h"

#include <pthread.h>
#include <sched.h>

#define JOIN_NOW(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_NOW(a, b, c)
#define LOCK JOIN(shmkit_, NOUN, )
#define CALL(verb) JOIN(shmkit_, NOUN, _##verb)

static shmkit_lock_info info_of(const LOCK *lock)
{
    shmkit_lock_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_OK, CALL(stat)(lock, &info));
    CHECK(info.struct_size == sizeof info && info.reserved == 0);
    return info;
}

static void acquire(void *lock)
{
    uint32_t owner_died = 7;
    STATUS(SHMKIT_OK, CALL(acquire)(lock, SHMKIT_FOREVER, 0, &owner_died));
    CHECK(owner_died == 0);
}

static void release(void *lock)
{
    STATUS(SHMKIT_OK, CALL(release)(lock));
}

/* Waits until a waiter sleeps on the lock. */
static inline void await_sleeper(const LOCK *lock)
{
    while (info_of(lock).contended_since == 0)
        sched_yield();
}

#endif
