/* Recursive locks in C: nested acquires, the owner (a thread), takeover, and what waits.h tests. */
#define NOUN rlock
#include "waits.h"

static uint64_t depth(const LOCK *lock)
{
    uint64_t depth = 77;
    STATUS(SHMKIT_OK, shmkit_rlock_depth(lock, &depth));
    return depth;
}

static void test_nested_acquires(void)
{
    LOCK *lock = unnamed();
    CHECK(depth(lock) == 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rlock_release(lock));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rlock_mark_consistent(lock));
    for (uint64_t times = 1; times <= 1000; times++) {
        acquire(lock);
        CHECK(depth(lock) == times);
    }
    CHECK(info_of(lock).acquisitions == 1 && info_of(lock).contended == 0);
    for (uint64_t times = 999; times > 0; times--) {
        release(lock);
        CHECK(depth(lock) == times && info_of(lock).flags == SHMKIT_LOCK_HELD);
    }
    release(lock);
    CHECK(depth(lock) == 0 && info_of(lock).flags == 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rlock_release(lock));
    STATUS(SHMKIT_ERR_INVALID, shmkit_rlock_depth(lock, NULL));
    STATUS(SHMKIT_OK, shmkit_rlock_close(lock));
}

static void check_non_owner(void *lock)
{
    CHECK(depth(lock) == 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rlock_release(lock));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rlock_mark_consistent(lock));
    STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_rlock_acquire(lock, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_rlock_acquire(lock, 1000000, 0, NULL));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rlock_release(lock));
    CHECK(depth(lock) == 0);
}

static void *check_non_owner_in_a_thread(void *lock)
{
    check_non_owner(lock);
    return NULL;
}

static void test_owner_is_a_thread(void)
{
    LOCK *lock = unnamed();
    pthread_t thread;
    acquire(lock);
    acquire(lock);
    CHECK(pthread_create(&thread, NULL, check_non_owner_in_a_thread, lock) == 0 && pthread_join(thread, NULL) == 0);
    /* The only thread of the child has the same thread number as the owner, but another process. */
    CHECK(check_fork(check_non_owner, lock) == 0);
    CHECK(depth(lock) == 2);
    release(lock);
    release(lock);
    STATUS(SHMKIT_OK, shmkit_rlock_close(lock));
}

static void *acquire_and_end(void *lock)
{
    acquire(lock);
    return NULL;
}

static void acquire_in_a_thread(void *lock)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, acquire_and_end, lock) == 0 && pthread_join(thread, NULL) == 0);
    /* If the owning thread ends and its process lives, the lock stays held. */
    STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_rlock_acquire(lock, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rlock_release(lock));
}

static void acquire_twice(void *lock)
{
    acquire(lock);
    acquire(lock);
}

static void test_takeover_resets_the_depth(void)
{
    LOCK *lock = unnamed();
    uint32_t owner_died = 7;
    void (*const holders[])(void *) = {acquire_twice, acquire_in_a_thread};
    for (size_t at = 0; at < 2; at++) {
        holder_kill(holder_start(holders[at], release, lock));
        STATUS(SHMKIT_OK, shmkit_rlock_acquire(lock, SHMKIT_FOREVER, 0, &owner_died));
        CHECK(owner_died == 1 && depth(lock) == 1);
        owner_died = 7;
        STATUS(SHMKIT_OK, shmkit_rlock_acquire(lock, SHMKIT_NOWAIT, 0, &owner_died));
        CHECK(owner_died == 1 && depth(lock) == 2);
        STATUS(SHMKIT_OK, shmkit_rlock_mark_consistent(lock));
        STATUS(SHMKIT_OK, shmkit_rlock_acquire(lock, SHMKIT_NOWAIT, 0, &owner_died));
        CHECK(owner_died == 0 && depth(lock) == 3);
        release(lock);
        release(lock);
        CHECK(info_of(lock).flags == SHMKIT_LOCK_HELD);
        release(lock);
        CHECK(info_of(lock).flags == 0);
    }
    STATUS(SHMKIT_OK, shmkit_rlock_close(lock));
}

static void test_overflow(void)
{
    enum { DEPTH = 3 }; /* the index of the depth among the eight words of the lock */
    shmkit_segment *segment = managed_segment(NULL, 4096);
    LOCK *lock = NULL;
    void *data = NULL;
    uint32_t owner_died = 7;
    STATUS(SHMKIT_OK, shmkit_rlock_create_at(segment, 0, NULL, &lock));
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    acquire_twice(lock);
    CHECK(((volatile uint64_t *)data)[DEPTH] == 2);
    ((volatile uint64_t *)data)[DEPTH] = UINT64_MAX;
    STATUS(SHMKIT_ERR_OVERFLOW, shmkit_rlock_acquire(lock, SHMKIT_FOREVER, 0, &owner_died));
    CHECK(owner_died == 7 && depth(lock) == UINT64_MAX);
    release(lock);
    CHECK(depth(lock) == UINT64_MAX - 1);
    STATUS(SHMKIT_OK, shmkit_rlock_close(lock));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void tests(void)
{
    test_nested_acquires();
    test_owner_is_a_thread();
    test_takeover_resets_the_depth();
    test_overflow();
    test_waits();
}

int main(void)
{
    return check_main(tests);
}
