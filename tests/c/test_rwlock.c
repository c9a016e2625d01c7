/* Readers-writer locks in C: readers, writers, upgrades, deaths, limits, and bad arguments. */
#include "holder.h"

#include <pthread.h>
#include <sched.h>

typedef shmkit_rwlock LOCK;

static const shmkit_rwlock_options PLAIN = {.struct_size = sizeof(shmkit_rwlock_options)};

static LOCK *unnamed(void)
{
    LOCK *lock = NULL;
    STATUS(SHMKIT_OK, shmkit_rwlock_create(NULL, NULL, &lock));
    return lock;
}

static LOCK *with_readers(uint32_t readers)
{
    LOCK *lock = NULL;
    shmkit_rwlock_options options = PLAIN;
    options.readers = readers;
    STATUS(SHMKIT_OK, shmkit_rwlock_create(NULL, &options, &lock));
    return lock;
}

static shmkit_rwlock_info info_of(const LOCK *lock)
{
    shmkit_rwlock_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_OK, shmkit_rwlock_stat(lock, &info));
    CHECK(info.struct_size == sizeof info && info.reserved == 0);
    return info;
}

static void start_reading(void *lock)
{
    uint32_t owner_died = 7;
    STATUS(SHMKIT_OK, shmkit_rwlock_acquire_read(lock, SHMKIT_FOREVER, 0, &owner_died));
    CHECK(owner_died == 0);
}

static void stop_reading(void *lock)
{
    STATUS(SHMKIT_OK, shmkit_rwlock_release_read(lock));
}

static void start_writing(void *lock)
{
    uint32_t owner_died = 7;
    STATUS(SHMKIT_OK, shmkit_rwlock_acquire_write(lock, SHMKIT_FOREVER, 0, &owner_died));
    CHECK(owner_died == 0);
}

static void stop_writing(void *lock)
{
    STATUS(SHMKIT_OK, shmkit_rwlock_release_write(lock));
}

static void read_once(void *lock)
{
    start_reading(lock);
    stop_reading(lock);
}

static void write_once(void *lock)
{
    start_writing(lock);
    stop_writing(lock);
}

static void write_and_read_once(void *lock)
{
    write_once(lock);
    read_once(lock);
}

/* Waits until a waiter sleeps on the lock. */
static void await_sleeper(const LOCK *lock)
{
    while (info_of(lock).contended_since == 0)
        sched_yield();
}

/* Waits until a writer, or a reader that upgrades, sleeps until the other readers release. */
static void await_waiting_writer(const LOCK *lock)
{
    for (;;) {
        shmkit_rwlock_info info = info_of(lock);
        if ((info.flags & SHMKIT_RWLOCK_WAITING) && info.contended_since != 0)
            return;
        sched_yield();
    }
}

static void test_many_readers_or_one_writer(void)
{
    LOCK *lock = unnamed();
    struct holder reader[3];
    for (size_t at = 0; at < 3; at++)
        reader[at] = holder_start(start_reading, stop_reading, lock);
    shmkit_rwlock_info info = info_of(lock);
    CHECK(info.readers == 3 && info.reading_processes == 3 && info.max_readers == 128 && info.flags == 0);
    start_reading(lock);
    start_reading(lock);
    info = info_of(lock);
    CHECK(info.readers == 5 && info.reading_processes == 4);
    uint32_t owner_died = 7;
    STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_rwlock_acquire_write(lock, SHMKIT_NOWAIT, 0, &owner_died));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_rwlock_acquire_write(lock, 2000000, 0, &owner_died));
    CHECK(owner_died == 7);
    for (size_t at = 0; at < 3; at++)
        holder_finish(reader[at]);
    stop_reading(lock);
    stop_reading(lock);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rwlock_release_read(lock));
    struct holder writer = holder_start(start_writing, stop_writing, lock);
    info = info_of(lock);
    CHECK(info.flags == SHMKIT_RWLOCK_WRITING && info.owner_pid == (uint32_t)writer.pid && info.owner_ticket != 0);
    CHECK(info.owner_namespace != 0);
    STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_rwlock_acquire_read(lock, SHMKIT_NOWAIT, 0, &owner_died));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_rwlock_acquire_read(lock, 2000000, 0, &owner_died));
    STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_rwlock_acquire_write(lock, SHMKIT_NOWAIT, 0, &owner_died));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_rwlock_acquire_write(lock, 1, 0, &owner_died));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rwlock_release_write(lock));
    CHECK(owner_died == 7);
    /* After the release, the waiting readers and the waiting writer acquire the lock. */
    struct holder waiting[3] = {holder_run(read_once, lock), holder_run(write_once, lock), holder_run(read_once, lock)};
    await_sleeper(lock);
    holder_finish(writer);
    for (size_t at = 0; at < 3; at++)
        CHECK(holder_end(waiting[at]) == 0);
    write_and_read_once(lock);
    CHECK(info_of(lock).flags == 0 && info_of(lock).recoveries == 0);
    STATUS(SHMKIT_OK, shmkit_rwlock_close(lock));
}

static void test_not_owner(void)
{
    LOCK *lock = unnamed();
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rwlock_release_read(lock));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rwlock_release_write(lock));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rwlock_mark_consistent(lock));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rwlock_upgrade(lock, SHMKIT_FOREVER, 0));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rwlock_downgrade(lock));
    start_reading(lock);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rwlock_release_write(lock));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rwlock_mark_consistent(lock));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rwlock_downgrade(lock));
    stop_reading(lock);
    start_writing(lock);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rwlock_release_read(lock));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rwlock_upgrade(lock, SHMKIT_NOWAIT, 0));
    STATUS(SHMKIT_OK, shmkit_rwlock_mark_consistent(lock));
    stop_writing(lock);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rwlock_release_write(lock));
    STATUS(SHMKIT_OK, shmkit_rwlock_close(lock));
}

static void upgrade_and_stop_writing(void *lock)
{
    start_reading(lock);
    STATUS(SHMKIT_OK, shmkit_rwlock_upgrade(lock, SHMKIT_FOREVER, 0));
    stop_writing(lock);
}

static void test_upgrade_and_downgrade(void)
{
    LOCK *lock = unnamed();
    start_reading(lock);
    STATUS(SHMKIT_OK, shmkit_rwlock_upgrade(lock, SHMKIT_NOWAIT, 0));
    CHECK(info_of(lock).flags == SHMKIT_RWLOCK_WRITING && info_of(lock).readers == 0);
    STATUS(SHMKIT_OK, shmkit_rwlock_downgrade(lock));
    CHECK(info_of(lock).flags == 0 && info_of(lock).readers == 1);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rwlock_downgrade(lock));
    struct holder reader = holder_start(start_reading, stop_reading, lock);
    STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_rwlock_upgrade(lock, SHMKIT_NOWAIT, 0));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_rwlock_upgrade(lock, 2000000, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_rwlock_upgrade(lock, -2, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_rwlock_upgrade(lock, SHMKIT_NOWAIT, 2));
    CHECK(info_of(lock).readers == 2);
    holder_finish(reader);
    /* If two readers upgrade, the second one fails with DEADLOCK and still reads. */
    struct holder first = holder_run(upgrade_and_stop_writing, lock);
    await_waiting_writer(lock);
    STATUS(SHMKIT_ERR_DEADLOCK, shmkit_rwlock_upgrade(lock, SHMKIT_FOREVER, 0));
    STATUS(SHMKIT_ERR_DEADLOCK, shmkit_rwlock_upgrade(lock, SHMKIT_NOWAIT, 0));
    stop_reading(lock);
    CHECK(holder_end(first) == 0);
    write_and_read_once(lock);
    STATUS(SHMKIT_OK, shmkit_rwlock_close(lock));
}

static void upgrade(void *lock)
{
    start_reading(lock);
    STATUS(SHMKIT_OK, shmkit_rwlock_upgrade(lock, SHMKIT_FOREVER, 0));
}

static void downgrade(void *lock)
{
    start_writing(lock);
    STATUS(SHMKIT_OK, shmkit_rwlock_downgrade(lock));
}

static void check_takeover(LOCK *lock)
{
    uint32_t owner_died = 7;
    STATUS(SHMKIT_OK, shmkit_rwlock_acquire_read(lock, SHMKIT_FOREVER, 0, &owner_died));
    CHECK(owner_died == 1 && (info_of(lock).flags & SHMKIT_RWLOCK_OWNER_DIED));
    STATUS(SHMKIT_OK, shmkit_rwlock_upgrade(lock, SHMKIT_FOREVER, 0));
    stop_writing(lock);
    owner_died = 7;
    STATUS(SHMKIT_OK, shmkit_rwlock_acquire_write(lock, SHMKIT_FOREVER, 0, &owner_died));
    CHECK(owner_died == 1);
    STATUS(SHMKIT_OK, shmkit_rwlock_mark_consistent(lock));
    stop_writing(lock);
    write_and_read_once(lock);
}

static void wait_and_read(void *lock)
{
    uint32_t owner_died = 7;
    STATUS(SHMKIT_OK, shmkit_rwlock_acquire_read(lock, SHMKIT_FOREVER, 0, &owner_died));
    CHECK(owner_died == 1);
    stop_reading(lock);
}

static void test_deaths(void)
{
    LOCK *lock = unnamed();
    holder_kill(holder_start(start_reading, do_nothing, lock));
    write_and_read_once(lock);
    holder_kill(holder_start(downgrade, do_nothing, lock));
    write_and_read_once(lock);
    CHECK(info_of(lock).recoveries == 0);
    holder_kill(holder_start(start_writing, do_nothing, lock));
    check_takeover(lock);
    holder_kill(holder_start(upgrade, do_nothing, lock));
    check_takeover(lock);
    CHECK(info_of(lock).recoveries == 2);
    struct holder writer = holder_start(start_writing, do_nothing, lock);
    struct holder waiting = holder_run(wait_and_read, lock);
    await_sleeper(lock);
    holder_kill(writer);
    CHECK(holder_end(waiting) == 0);
    check_takeover(lock);
    struct holder reader = holder_start(start_reading, do_nothing, lock);
    waiting = holder_run(write_once, lock);
    await_waiting_writer(lock);
    holder_kill(reader);
    CHECK(holder_end(waiting) == 0);
    write_and_read_once(lock);
    STATUS(SHMKIT_OK, shmkit_rwlock_close(lock));
}

static int32_t interrupt_first_call(void *unused)
{
    (void)unused;
    return 1;
}

static void test_waits(void)
{
    const int64_t invalid[] = {-2, -1000000000, INT64_MIN};
    const int64_t good[] = {SHMKIT_NOWAIT, SHMKIT_FOREVER, 1, (INT64_C(1) << 53) + 1, INT64_MAX};
    LOCK *lock = unnamed();
    uint32_t owner_died = 7;
    for (size_t at = 0; at < sizeof invalid / sizeof *invalid; at++) {
        STATUS(SHMKIT_ERR_INVALID, shmkit_rwlock_acquire_read(lock, invalid[at], 0, &owner_died));
        STATUS(SHMKIT_ERR_INVALID, shmkit_rwlock_acquire_write(lock, invalid[at], 0, &owner_died));
    }
    for (uint32_t flag = 2; flag != 0; flag <<= 1) {
        STATUS(SHMKIT_ERR_INVALID, shmkit_rwlock_acquire_read(lock, SHMKIT_NOWAIT, flag, &owner_died));
        STATUS(SHMKIT_ERR_INVALID, shmkit_rwlock_acquire_write(lock, SHMKIT_NOWAIT, flag, &owner_died));
    }
    CHECK(owner_died == 7 && info_of(lock).readers == 0 && info_of(lock).flags == 0);
    for (size_t at = 0; at < sizeof good / sizeof *good; at++) {
        STATUS(SHMKIT_OK, shmkit_rwlock_acquire_read(lock, good[at], SHMKIT_INTERRUPTIBLE, &owner_died));
        CHECK(owner_died == 0);
        STATUS(SHMKIT_OK, shmkit_rwlock_upgrade(lock, good[at], SHMKIT_INTERRUPTIBLE));
        stop_writing(lock);
        STATUS(SHMKIT_OK, shmkit_rwlock_acquire_write(lock, good[at], SHMKIT_INTERRUPTIBLE, NULL));
        stop_writing(lock);
        STATUS(SHMKIT_OK, shmkit_rwlock_acquire_read(lock, good[at], 0, NULL));
        stop_reading(lock);
    }
    owner_died = 7;
    STATUS(SHMKIT_OK, shmkit_set_interrupt(interrupt_first_call, NULL));
    struct holder reader = holder_start(start_reading, stop_reading, lock);
    start_reading(lock);
    STATUS(SHMKIT_ERR_INTERRUPTED,
           shmkit_rwlock_acquire_write(lock, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE, &owner_died));
    STATUS(SHMKIT_ERR_INTERRUPTED, shmkit_rwlock_upgrade(lock, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE));
    CHECK(info_of(lock).readers == 2 && info_of(lock).flags == 0);
    stop_reading(lock);
    holder_finish(reader);
    struct holder writer = holder_start(start_writing, stop_writing, lock);
    STATUS(SHMKIT_ERR_INTERRUPTED, shmkit_rwlock_acquire_read(lock, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE, &owner_died));
    CHECK(owner_died == 7);
    holder_finish(writer);
    STATUS(SHMKIT_OK, shmkit_set_interrupt(NULL, NULL));
    write_and_read_once(lock);
    STATUS(SHMKIT_OK, shmkit_rwlock_close(lock));
}

static void test_limits(void)
{
    LOCK *lock = with_readers(2);
    struct holder one = holder_start(start_reading, stop_reading, lock);
    struct holder two = holder_start(start_reading, stop_reading, lock);
    STATUS(SHMKIT_ERR_TOO_MANY_PROCESSES, shmkit_rwlock_acquire_read(lock, SHMKIT_FOREVER, 0, NULL));
    holder_finish(one);
    read_once(lock);
    holder_finish(two);
    for (int times = 0; times < 65535; times++)
        if (shmkit_rwlock_acquire_read(lock, SHMKIT_NOWAIT, 0, NULL) != SHMKIT_OK)
            CHECK(!"a process can acquire the lock 65,535 times");
    STATUS(SHMKIT_ERR_OVERFLOW, shmkit_rwlock_acquire_read(lock, SHMKIT_NOWAIT, 0, NULL));
    CHECK(info_of(lock).readers == 65535 && info_of(lock).reading_processes == 1 && info_of(lock).max_readers == 2);
    for (int times = 0; times < 65535; times++)
        if (shmkit_rwlock_release_read(lock) != SHMKIT_OK)
            CHECK(!"a process can release the lock 65,535 times");
    write_and_read_once(lock);
    STATUS(SHMKIT_OK, shmkit_rwlock_close(lock));
}

static void test_readers(void)
{
    LOCK *lock = NULL, *opened = NULL;
    shmkit_rwlock_options options = PLAIN;
    uint64_t size = 7;
    const uint32_t too_many[] = {4097, 65536, 65537, UINT32_MAX};
    options.readers = 3;
    STATUS(SHMKIT_OK, shmkit_rwlock_size(&options, &size));
    CHECK(size == 128 + 3 * 64);
    for (size_t at = 0; at < sizeof too_many / sizeof *too_many; at++) {
        options.readers = too_many[at];
        STATUS(SHMKIT_ERR_INVALID, shmkit_rwlock_size(&options, &size));
        STATUS(SHMKIT_ERR_INVALID, shmkit_rwlock_create("a", &options, &lock));
        STATUS(SHMKIT_ERR_INVALID, shmkit_rwlock_create(NULL, &options, &lock));
    }
    CHECK(size == 128 + 3 * 64);
    options = PLAIN;
    options.reserved = 1;
    STATUS(SHMKIT_ERR_INVALID, shmkit_rwlock_create("a", &options, &lock));
    CHECK(lock == NULL && check_entries() == 0);
    options = PLAIN;
    options.readers = 5;
    STATUS(SHMKIT_OK, shmkit_rwlock_create("a", &options, &lock));
    STATUS(SHMKIT_OK, shmkit_rwlock_open("a", NULL, &opened));
    CHECK(info_of(opened).max_readers == 5);
    start_reading(lock);
    stop_reading(opened);
    STATUS(SHMKIT_OK, shmkit_rwlock_unlink(opened));
    STATUS(SHMKIT_OK, shmkit_rwlock_close(opened));
    STATUS(SHMKIT_OK, shmkit_rwlock_close(lock));
}

static void test_hostile_bytes(void)
{
    shmkit_segment *segment = managed_segment(NULL, 16384);
    LOCK *lock = NULL;
    void *data = NULL;
    STATUS(SHMKIT_OK, shmkit_rwlock_create_at(segment, 64, NULL, &lock));
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    /* Any bytes before the count slots: they identify no live process. */
    for (size_t at = 0; at < 128 - 8; at++) {
        memset((char *)data + 64 + 8 + at, 0xa5, 1);
        uint32_t owner_died;
        STATUS(SHMKIT_OK, shmkit_rwlock_acquire_write(lock, SHMKIT_FOREVER, 0, &owner_died));
        STATUS(SHMKIT_OK, shmkit_rwlock_mark_consistent(lock));
        STATUS(SHMKIT_OK, shmkit_rwlock_downgrade(lock));
        STATUS(SHMKIT_OK, shmkit_rwlock_upgrade(lock, SHMKIT_FOREVER, 0));
        stop_writing(lock);
    }
    STATUS(SHMKIT_OK, shmkit_rwlock_close(lock));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void test_bad_outputs(void)
{
    LOCK *lock = unnamed();
    uint32_t *odd = check_misaligned();
    STATUS(SHMKIT_ERR_INVALID, shmkit_rwlock_acquire_read(lock, SHMKIT_NOWAIT, 0, odd));
    STATUS(SHMKIT_ERR_INVALID, shmkit_rwlock_acquire_write(lock, SHMKIT_NOWAIT, 0, odd));
    CHECK(info_of(lock).flags == 0 && info_of(lock).readers == 0 && info_of(lock).writes == 0);
    STATUS(SHMKIT_OK, shmkit_rwlock_close(lock));
}

enum { THREADS = 4, ROUNDS = 2000 };

/* Two numbers that are equal while no writer holds the lock. */
static struct {
    LOCK *lock;
    uint64_t numbers[2];
} guarded;

static void *read_and_write(void *unused)
{
    bool same = true;
    for (int round = 0; round < ROUNDS; round++) {
        if (round % 4 == 0) {
            same &= shmkit_rwlock_acquire_write(guarded.lock, SHMKIT_FOREVER, 0, NULL) == SHMKIT_OK;
            guarded.numbers[0]++;
            guarded.numbers[1]++;
            same &= shmkit_rwlock_release_write(guarded.lock) == SHMKIT_OK;
        } else {
            same &= shmkit_rwlock_acquire_read(guarded.lock, SHMKIT_FOREVER, 0, NULL) == SHMKIT_OK;
            same &= guarded.numbers[0] == guarded.numbers[1];
            same &= shmkit_rwlock_release_read(guarded.lock) == SHMKIT_OK;
        }
    }
    CHECK(same);
    return unused;
}

static void test_threads(void)
{
    pthread_t threads[THREADS];
    guarded.lock = unnamed();
    for (size_t at = 0; at < THREADS; at++)
        CHECK(pthread_create(&threads[at], NULL, read_and_write, NULL) == 0);
    for (size_t at = 0; at < THREADS; at++)
        CHECK(pthread_join(threads[at], NULL) == 0);
    CHECK(guarded.numbers[0] == THREADS * ROUNDS / 4 && guarded.numbers[1] == guarded.numbers[0]);
    CHECK(info_of(guarded.lock).writes == THREADS * ROUNDS / 4 && info_of(guarded.lock).readers == 0);
    STATUS(SHMKIT_OK, shmkit_rwlock_close(guarded.lock));
}

static void tests(void)
{
    test_many_readers_or_one_writer();
    test_not_owner();
    test_upgrade_and_downgrade();
    test_deaths();
    test_waits();
    test_limits();
    test_readers();
    test_hostile_bytes();
    test_bad_outputs();
    test_threads();
}

int main(void)
{
    return check_main(tests);
}
