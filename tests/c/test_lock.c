/* Locks, as C has them: what the functions answer, to whom a lock belongs, and bad arguments. */
#define NOUN lock
#include "waits.h"

static void test_one_at_a_time(void)
{
    LOCK *lock = unnamed();
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_lock_release(lock));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_lock_mark_consistent(lock));
    take(lock);
    /* It is not recursive. */
    STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_lock_acquire(lock, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_lock_acquire(lock, 2000000, 0, NULL));
    STATUS(SHMKIT_OK, shmkit_lock_mark_consistent(lock));
    give(lock);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_lock_release(lock));
    CHECK(told(lock).acquisitions == 1 && told(lock).owner_pid == 0 && told(lock).owner_ticket == 0);
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
}

static void *release_elsewhere(void *lock)
{
    give(lock);
    return NULL;
}

static void release_as_stranger(void *lock)
{
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_lock_release(lock));
    STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_lock_acquire(lock, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_lock_release(lock));
}

static void test_owner_is_a_process(void)
{
    LOCK *lock = unnamed();
    pthread_t thread;
    take(lock);
    CHECK(check_fork(release_as_stranger, lock) == 0);
    CHECK(pthread_create(&thread, NULL, release_elsewhere, lock) == 0 && pthread_join(thread, NULL) == 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_lock_release(lock));
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
}

static void test_transferable(void)
{
    shmkit_object_options options = {.struct_size = sizeof options};
    shmkit_segment *segment = managed_segment(NULL, 4096);
    LOCK *lock = NULL, *same = NULL, *none = NULL;
    options.flags = SHMKIT_LOCK_TRANSFERABLE;
    STATUS(SHMKIT_OK, shmkit_lock_create_at(segment, 0, &options, &lock));
    STATUS(SHMKIT_ERR_INVALID, shmkit_lock_create_at(segment, 0, NULL, &none));
    /* Whoever opens it need not know how it was made. */
    STATUS(SHMKIT_OK, shmkit_lock_open_at(segment, 0, NULL, &same));
    CHECK(told(same).flags == SHMKIT_LOCK_TRANSFERABLE && none == NULL);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_lock_release(same));
    take(lock);
    CHECK(check_fork(give, same) == 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_lock_release(lock));
    struct holder owner = holder_start(take, take, lock);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_lock_mark_consistent(same));
    give(same);
    holder_leave(owner);
    /* Its last owner has ended; the mark of that goes with the lock when a stranger releases it. */
    uint32_t recovered = 7;
    STATUS(SHMKIT_OK, shmkit_lock_acquire(same, SHMKIT_FOREVER, 0, &recovered));
    CHECK(recovered == 1);
    CHECK(check_fork(give, lock) == 0);
    CHECK(told(lock).flags == (SHMKIT_LOCK_OWNER_DIED | SHMKIT_LOCK_TRANSFERABLE));
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    STATUS(SHMKIT_OK, shmkit_lock_close(same));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));

    STATUS(SHMKIT_OK, shmkit_lock_create("transferable", &options, &lock));
    STATUS(SHMKIT_ERR_INVALID, shmkit_lock_open_or_create("transferable", NULL, &none));
    STATUS(SHMKIT_OK, shmkit_lock_open_or_create("transferable", &options, &same));
    take(lock);
    CHECK(check_fork(give, same) == 0);
    STATUS(SHMKIT_OK, shmkit_lock_unlink(same));
    STATUS(SHMKIT_OK, shmkit_lock_close(same));
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
}

static void tests(void)
{
    test_one_at_a_time();
    test_owner_is_a_process();
    test_transferable();
    test_waits();
}

int main(void)
{
    return check_main(tests);
}
