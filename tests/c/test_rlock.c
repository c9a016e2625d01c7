/* Recursive locks, as C has them: what holds for all locks, and that the owner is a thread, which may take it again. */
#define NOUN rlock
#include "waits.h"

static uint64_t depth(const LOCK *lock)
{
    uint64_t depth = 77;
    STATUS(SHMKIT_OK, shmkit_rlock_depth(lock, &depth));
    return depth;
}

static void test_again_and_again(void)
{
    LOCK *lock = unnamed();
    CHECK(depth(lock) == 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rlock_release(lock));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rlock_mark_consistent(lock));
    for (uint64_t times = 1; times <= 1000; times++) {
        take(lock);
        CHECK(depth(lock) == times);
    }
    CHECK(told(lock).acquisitions == 1 && told(lock).contended == 0);
    for (uint64_t times = 999; times > 0; times--) {
        give(lock);
        CHECK(depth(lock) == times && told(lock).flags == SHMKIT_LOCK_HELD);
    }
    give(lock);
    CHECK(depth(lock) == 0 && told(lock).flags == 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rlock_release(lock));
    STATUS(SHMKIT_ERR_INVALID, shmkit_rlock_depth(lock, NULL));
    STATUS(SHMKIT_OK, shmkit_rlock_close(lock));
}

static void stranger(void *lock)
{
    CHECK(depth(lock) == 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rlock_release(lock));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rlock_mark_consistent(lock));
    STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_rlock_acquire(lock, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_rlock_acquire(lock, 1000000, 0, NULL));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rlock_release(lock));
    CHECK(depth(lock) == 0);
}

static void *stranger_in_a_thread(void *lock)
{
    stranger(lock);
    return NULL;
}

static void test_owner_is_a_thread(void)
{
    LOCK *lock = unnamed();
    pthread_t thread;
    take(lock);
    take(lock);
    CHECK(pthread_create(&thread, NULL, stranger_in_a_thread, lock) == 0 && pthread_join(thread, NULL) == 0);
    /* The child's only thread has the number of its parent's. */
    CHECK(check_fork(stranger, lock) == 0);
    CHECK(depth(lock) == 2);
    give(lock);
    give(lock);
    STATUS(SHMKIT_OK, shmkit_rlock_close(lock));
}

static void *take_and_end(void *lock)
{
    take(lock);
    return NULL;
}

static void hold_in_a_thread(void *lock)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, take_and_end, lock) == 0 && pthread_join(thread, NULL) == 0);
    /* A thread that ends frees nothing. */
    STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_rlock_acquire(lock, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rlock_release(lock));
}

static void take_twice(void *lock)
{
    take(lock);
    take(lock);
}

static void test_take_over_begins_anew(void)
{
    LOCK *lock = unnamed();
    uint32_t recovered = 7;
    void (*const holders[])(void *) = {take_twice, hold_in_a_thread};
    for (size_t at = 0; at < 2; at++) {
        holder_kill(holder_start(holders[at], give, lock));
        STATUS(SHMKIT_OK, shmkit_rlock_acquire(lock, SHMKIT_FOREVER, 0, &recovered));
        CHECK(recovered == 1 && depth(lock) == 1);
        recovered = 7;
        STATUS(SHMKIT_OK, shmkit_rlock_acquire(lock, SHMKIT_NOWAIT, 0, &recovered));
        CHECK(recovered == 1 && depth(lock) == 2);
        STATUS(SHMKIT_OK, shmkit_rlock_mark_consistent(lock));
        STATUS(SHMKIT_OK, shmkit_rlock_acquire(lock, SHMKIT_NOWAIT, 0, &recovered));
        CHECK(recovered == 0 && depth(lock) == 3);
        give(lock);
        give(lock);
        CHECK(told(lock).flags == SHMKIT_LOCK_HELD);
        give(lock);
        CHECK(told(lock).flags == 0);
    }
    STATUS(SHMKIT_OK, shmkit_rlock_close(lock));
}

static void test_overflow(void)
{
    enum { DEPTH = 3 }; /* the word that counts, of the eight */
    shmkit_segment *segment = managed_segment(NULL, 4096);
    LOCK *lock = NULL;
    void *data = NULL;
    uint32_t recovered = 7;
    STATUS(SHMKIT_OK, shmkit_rlock_create_at(segment, 0, NULL, &lock));
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    take_twice(lock);
    CHECK(((volatile uint64_t *)data)[DEPTH] == 2);
    ((volatile uint64_t *)data)[DEPTH] = UINT64_MAX;
    STATUS(SHMKIT_ERR_OVERFLOW, shmkit_rlock_acquire(lock, SHMKIT_FOREVER, 0, &recovered));
    CHECK(recovered == 7 && depth(lock) == UINT64_MAX);
    give(lock);
    CHECK(depth(lock) == UINT64_MAX - 1);
    STATUS(SHMKIT_OK, shmkit_rlock_close(lock));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void tests(void)
{
    test_again_and_again();
    test_owner_is_a_thread();
    test_take_over_begins_anew();
    test_overflow();
    test_waits();
}

int main(void)
{
    return check_main(tests);
}
