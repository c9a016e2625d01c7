/* Locks in C: acquire and release, the owner, transferable locks, and what waits.h tests. */
#define NOUN lock
#include "waits.h"

static void test_acquire_and_release(void)
{
    LOCK *lock = unnamed();
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_lock_release(lock));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_lock_mark_consistent(lock));
    acquire(lock);
    /* The lock is not recursive. */
    STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_lock_acquire(lock, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_lock_acquire(lock, 2000000, 0, NULL));
    STATUS(SHMKIT_OK, shmkit_lock_mark_consistent(lock));
    release(lock);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_lock_release(lock));
    CHECK(info_of(lock).acquisitions == 1 && info_of(lock).owner_pid == 0 && info_of(lock).owner_ticket == 0);
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
}

static void *release_in_a_thread(void *lock)
{
    release(lock);
    return NULL;
}

static void release_as_non_owner(void *lock)
{
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_lock_release(lock));
    STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_lock_acquire(lock, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_lock_release(lock));
}

static void test_owner_is_a_process(void)
{
    LOCK *lock = unnamed();
    pthread_t thread;
    acquire(lock);
    CHECK(check_fork(release_as_non_owner, lock) == 0);
    CHECK(pthread_create(&thread, NULL, release_in_a_thread, lock) == 0 && pthread_join(thread, NULL) == 0);
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
    /* An opener may omit the flag; the lock keeps it. */
    STATUS(SHMKIT_OK, shmkit_lock_open_at(segment, 0, NULL, &same));
    CHECK(info_of(same).flags == SHMKIT_LOCK_TRANSFERABLE && none == NULL);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_lock_release(same));
    acquire(lock);
    CHECK(check_fork(release, same) == 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_lock_release(lock));
    struct holder owner = holder_start(acquire, acquire, lock);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_lock_mark_consistent(same));
    release(same);
    holder_finish(owner);
    /* The last owner has ended. The owner-died mark stays when a process that is not the owner releases the lock. */
    uint32_t owner_died = 7;
    STATUS(SHMKIT_OK, shmkit_lock_acquire(same, SHMKIT_FOREVER, 0, &owner_died));
    CHECK(owner_died == 1);
    CHECK(check_fork(release, lock) == 0);
    CHECK(info_of(lock).flags == (SHMKIT_LOCK_OWNER_DIED | SHMKIT_LOCK_TRANSFERABLE));
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    STATUS(SHMKIT_OK, shmkit_lock_close(same));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));

    STATUS(SHMKIT_OK, shmkit_lock_create("transferable", &options, &lock));
    STATUS(SHMKIT_ERR_INVALID, shmkit_lock_open_or_create("transferable", NULL, &none));
    STATUS(SHMKIT_OK, shmkit_lock_open_or_create("transferable", &options, &same));
    acquire(lock);
    CHECK(check_fork(release, same) == 0);
    STATUS(SHMKIT_OK, shmkit_lock_unlink(same));
    STATUS(SHMKIT_OK, shmkit_lock_close(same));
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
}

static void tests(void)
{
    test_acquire_and_release();
    test_owner_is_a_process();
    test_transferable();
    test_waits();
}

int main(void)
{
    return check_main(tests);
}
