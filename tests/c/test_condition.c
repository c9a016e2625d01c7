/* Conditions in C: waits and notifications with locks of both kinds, deaths, and bad arguments. */
#include "holder.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

static const shmkit_condition_options PLAIN = {.struct_size = sizeof(shmkit_condition_options)};

static shmkit_condition *unnamed(uint32_t cells)
{
    shmkit_condition *condition = NULL;
    shmkit_condition_options options = PLAIN;
    options.cells = cells;
    STATUS(SHMKIT_OK, shmkit_condition_create(NULL, &options, &condition));
    return condition;
}

static shmkit_lock *new_lock(void)
{
    shmkit_lock *lock = NULL;
    STATUS(SHMKIT_OK, shmkit_lock_create(NULL, NULL, &lock));
    return lock;
}

static shmkit_condition_info info_of(const shmkit_condition *condition)
{
    shmkit_condition_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_OK, shmkit_condition_stat(condition, &info));
    CHECK(info.struct_size == sizeof info && info.flags == 0);
    return info;
}

static void await_waiters(const shmkit_condition *condition, uint64_t count)
{
    while (info_of(condition).waiting < count)
        sched_yield();
}

static void acquire(shmkit_lock *lock)
{
    STATUS(SHMKIT_OK, shmkit_lock_acquire(lock, SHMKIT_FOREVER, 0, NULL));
}

static void release(shmkit_lock *lock)
{
    STATUS(SHMKIT_OK, shmkit_lock_release(lock));
}

static bool is_held(shmkit_lock *lock)
{
    shmkit_lock_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_OK, shmkit_lock_stat(lock, &info));
    return info.owner_pid == (uint32_t)getpid();
}

/* The arguments of a wait, and its expected results. */
struct wait {
    shmkit_condition *condition;
    shmkit_lock *lock;
    int64_t timeout;
    uint32_t flags;
    shmkit_status expected;
    uint32_t owner_died;
};

static void do_wait(void *argument)
{
    struct wait *wait = argument;
    uint32_t owner_died = 7;
    acquire(wait->lock);
    STATUS(wait->expected,
           shmkit_condition_wait(wait->condition, wait->lock, wait->timeout, wait->flags, &owner_died));
    CHECK(owner_died == wait->owner_died && is_held(wait->lock));
    release(wait->lock);
}

static void *wait_in_a_thread(void *argument)
{
    do_wait(argument);
    return NULL;
}

static void notify(shmkit_condition *condition, shmkit_lock *lock, uint32_t count)
{
    acquire(lock);
    STATUS(SHMKIT_OK, shmkit_condition_notify(condition, lock, count));
    release(lock);
}

static void test_sizes(void)
{
    const uint32_t cells[] = {0, 1, 4, 5, 128, 4096}, wrong[] = {4097, 65536, UINT32_MAX};
    const uint64_t sizes[] = {2112, 128, 128, 192, 2112, 65600};
    shmkit_condition_options options = PLAIN;
    shmkit_condition *none = NULL;
    uint64_t size = 0;
    for (size_t at = 0; at < sizeof cells / sizeof *cells; at++) {
        options.cells = cells[at];
        STATUS(SHMKIT_OK, shmkit_condition_size(&options, &size));
        CHECK(size == sizes[at]);
    }
    for (size_t at = 0; at < sizeof wrong / sizeof *wrong; at++) {
        options.cells = wrong[at];
        size = 77;
        STATUS(SHMKIT_ERR_INVALID, shmkit_condition_size(&options, &size));
        STATUS(SHMKIT_ERR_INVALID, shmkit_condition_create(NULL, &options, &none));
        STATUS(SHMKIT_ERR_INVALID, shmkit_condition_create("a", &options, &none));
        CHECK(size == 77 && none == NULL);
    }
    options = PLAIN;
    options.reserved = 1;
    STATUS(SHMKIT_ERR_INVALID, shmkit_condition_create("a", &options, &none));
    CHECK(none == NULL && check_entries() == 0);
}

static void test_notify_returns_the_oldest_waiters(void)
{
    enum { WAITERS = 5 };
    shmkit_condition *condition = unnamed(0);
    shmkit_lock *lock = new_lock();
    struct wait wait = {.condition = condition, .lock = lock, .timeout = SHMKIT_FOREVER};
    struct holder waiters[WAITERS];
    for (uint64_t at = 0; at < WAITERS; at++) {
        waiters[at] = holder_run(do_wait, &wait);
        await_waiters(condition, at + 1);
    }
    notify(condition, lock, 0);
    CHECK(info_of(condition).waiting == WAITERS);
    notify(condition, lock, 1);
    CHECK(holder_end(waiters[0]) == 0 && info_of(condition).waiting == WAITERS - 1);
    notify(condition, lock, 2);
    CHECK(holder_end(waiters[1]) == 0 && holder_end(waiters[2]) == 0 && info_of(condition).waiting == 2);
    acquire(lock);
    STATUS(SHMKIT_OK, shmkit_condition_notify_all(condition, lock));
    release(lock);
    CHECK(holder_end(waiters[3]) == 0 && holder_end(waiters[4]) == 0 && info_of(condition).waiting == 0);
    /* A notification without a waiter is lost. */
    notify(condition, lock, 1);
    wait.timeout = 1000000;
    wait.expected = SHMKIT_ERR_TIMEOUT;
    do_wait(&wait);
    shmkit_condition_info info = info_of(condition);
    CHECK(info.waits == WAITERS + 1 && info.notified == WAITERS && info.timeouts == 1 && info.recoveries == 0);
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    STATUS(SHMKIT_OK, shmkit_condition_close(condition));
}

static void test_all_cells_in_threads(void)
{
    enum { WAITERS = 128 };
    shmkit_condition *condition = unnamed(0);
    shmkit_lock *lock = new_lock();
    struct wait wait = {.condition = condition, .lock = lock, .timeout = SHMKIT_FOREVER};
    pthread_t threads[WAITERS];
    uint32_t owner_died = 7;
    for (int at = 0; at < WAITERS; at++)
        CHECK(pthread_create(&threads[at], NULL, wait_in_a_thread, &wait) == 0);
    await_waiters(condition, WAITERS);
    acquire(lock);
    STATUS(SHMKIT_ERR_TOO_MANY_PROCESSES, shmkit_condition_wait(condition, lock, SHMKIT_FOREVER, 0, &owner_died));
    CHECK(owner_died == 7 && is_held(lock));
    STATUS(SHMKIT_OK, shmkit_condition_notify_all(condition, lock));
    release(lock);
    for (int at = 0; at < WAITERS; at++)
        CHECK(pthread_join(threads[at], NULL) == 0);
    CHECK(info_of(condition).notified == WAITERS && info_of(condition).waiting == 0);
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    STATUS(SHMKIT_OK, shmkit_condition_close(condition));
}

static void wait_holding_twice(void *argument)
{
    struct wait *wait = argument;
    shmkit_rlock *lock = (shmkit_rlock *)wait->lock;
    uint64_t depth = 0;
    STATUS(SHMKIT_OK, shmkit_rlock_acquire(lock, SHMKIT_FOREVER, 0, NULL));
    STATUS(SHMKIT_OK, shmkit_rlock_acquire(lock, SHMKIT_FOREVER, 0, NULL));
    STATUS(wait->expected, shmkit_condition_wait(wait->condition, lock, wait->timeout, 0, NULL));
    STATUS(SHMKIT_OK, shmkit_rlock_depth(lock, &depth));
    CHECK(depth == 2);
    STATUS(SHMKIT_OK, shmkit_rlock_release(lock));
    STATUS(SHMKIT_OK, shmkit_rlock_release(lock));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_rlock_release(lock));
}

static void *notify_as_non_owner(void *argument)
{
    struct wait *wait = argument;
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_condition_notify(wait->condition, wait->lock, 1));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_condition_wait(wait->condition, wait->lock, 1, 0, NULL));
    return NULL;
}

static void test_recursive_lock(void)
{
    shmkit_condition *condition = unnamed(0);
    shmkit_rlock *lock = NULL;
    pthread_t thread;
    STATUS(SHMKIT_OK, shmkit_rlock_create(NULL, NULL, &lock));
    struct wait wait = {.condition = condition, .lock = (shmkit_lock *)lock, .timeout = SHMKIT_FOREVER};
    struct holder waiter = holder_run(wait_holding_twice, &wait);
    await_waiters(condition, 1);
    STATUS(SHMKIT_OK, shmkit_rlock_acquire(lock, SHMKIT_FOREVER, 0, NULL));
    CHECK(pthread_create(&thread, NULL, notify_as_non_owner, &wait) == 0 && pthread_join(thread, NULL) == 0);
    STATUS(SHMKIT_OK, shmkit_condition_notify(condition, lock, 1));
    STATUS(SHMKIT_OK, shmkit_rlock_release(lock));
    CHECK(holder_end(waiter) == 0);
    wait.timeout = 1000;
    wait.expected = SHMKIT_ERR_TIMEOUT;
    wait_holding_twice(&wait);
    STATUS(SHMKIT_OK, shmkit_rlock_close(lock));
    STATUS(SHMKIT_OK, shmkit_condition_close(condition));
}

static void test_timeouts(void)
{
    const int64_t invalid[] = {-2, -1000000000, INT64_MIN};
    const int64_t long_enough[] = {SHMKIT_FOREVER, (INT64_C(1) << 53) + 1, INT64_MAX};
    shmkit_condition *condition = unnamed(0);
    shmkit_lock *lock = new_lock();
    struct wait wait = {.condition = condition, .lock = lock};
    uint32_t owner_died = 7;
    struct timespec begin, end;
    acquire(lock);
    for (size_t at = 0; at < sizeof invalid / sizeof *invalid; at++)
        STATUS(SHMKIT_ERR_INVALID, shmkit_condition_wait(condition, lock, invalid[at], 0, &owner_died));
    for (uint32_t flag = 2; flag != 0; flag <<= 1)
        STATUS(SHMKIT_ERR_INVALID, shmkit_condition_wait(condition, lock, SHMKIT_NOWAIT, flag, &owner_died));
    CHECK(owner_died == 7 && info_of(condition).waits == 0 && is_held(lock));
    release(lock);
    wait.expected = SHMKIT_ERR_WOULD_BLOCK;
    do_wait(&wait);
    wait.expected = SHMKIT_ERR_TIMEOUT;
    wait.timeout = 1;
    do_wait(&wait);
    wait.timeout = 30000000;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do_wait(&wait);
    clock_gettime(CLOCK_MONOTONIC, &end);
    CHECK((end.tv_sec - begin.tv_sec) * INT64_C(1000000000) + end.tv_nsec - begin.tv_nsec >= wait.timeout);
    CHECK(info_of(condition).waiting == 0 && info_of(condition).timeouts == 3);
    wait.expected = SHMKIT_OK;
    for (size_t at = 0; at < sizeof long_enough / sizeof *long_enough; at++) {
        wait.timeout = long_enough[at];
        struct holder waiter = holder_run(do_wait, &wait);
        await_waiters(condition, 1);
        notify(condition, lock, 1);
        CHECK(holder_end(waiter) == 0);
    }
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    STATUS(SHMKIT_OK, shmkit_condition_close(condition));
}

static void waits_with_a_hook(void *argument)
{
    int calls = 0;
    struct wait *wait = argument;
    STATUS(SHMKIT_OK, shmkit_set_interrupt(interrupt_third_call, &calls));
    do_wait(wait);
    CHECK(calls == (wait->flags ? 3 : 0));
}

static void test_interrupts(void)
{
    shmkit_condition *condition = unnamed(0);
    shmkit_lock *lock = new_lock();
    struct wait wait = {condition, lock, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE, SHMKIT_ERR_INTERRUPTED, 0};
    CHECK(holder_end(holder_run(waits_with_a_hook, &wait)) == 0);
    CHECK(info_of(condition).waiting == 0);
    wait = (struct wait){condition, lock, 100000000, 0, SHMKIT_ERR_TIMEOUT, 0};
    CHECK(holder_end(holder_run(waits_with_a_hook, &wait)) == 0);
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    STATUS(SHMKIT_OK, shmkit_condition_close(condition));
}

static void acquire_its_lock(void *argument)
{
    acquire(((struct wait *)argument)->lock);
}

static void release_its_lock(void *argument)
{
    release(((struct wait *)argument)->lock);
}

static void test_deaths_of_waiters_and_owner(void)
{
    shmkit_condition *condition = unnamed(2);
    shmkit_lock *lock = new_lock();
    struct wait wait = {.condition = condition, .lock = lock, .timeout = SHMKIT_FOREVER};
    struct holder first, second;
    uint32_t owner_died = 7;
    /* A notify skips a dead waiter, and the cell of that waiter is used again. */
    for (int round = 0; round < 3; round++) {
        first = holder_run(do_wait, &wait);
        await_waiters(condition, 1);
        second = holder_run(do_wait, &wait);
        await_waiters(condition, 2);
        holder_kill(first);
        notify(condition, lock, 1);
        CHECK(holder_end(second) == 0 && info_of(condition).waiting == 0);
    }
    /* If a notified waiter dies before it has the lock, another waiter gets the notification. */
    first = holder_run(do_wait, &wait);
    await_waiters(condition, 1);
    second = holder_run(do_wait, &wait);
    await_waiters(condition, 2);
    acquire(lock);
    STATUS(SHMKIT_OK, shmkit_condition_notify(condition, lock, 1));
    holder_kill(first);
    release(lock);
    CHECK(holder_end(second) == 0 && info_of(condition).recoveries == 1);
    /* If the lock's owner dies while a waiter sleeps, the next owner and the waiter see owner_died = 1. */
    wait.owner_died = 1;
    first = holder_run(do_wait, &wait);
    await_waiters(condition, 1);
    holder_kill(holder_start(acquire_its_lock, release_its_lock, &wait));
    STATUS(SHMKIT_OK, shmkit_lock_acquire(lock, SHMKIT_FOREVER, 0, &owner_died));
    CHECK(owner_died == 1);
    STATUS(SHMKIT_OK, shmkit_condition_notify_all(condition, lock));
    release(lock);
    CHECK(holder_end(first) == 0);
    wait.timeout = 1000;
    wait.expected = SHMKIT_ERR_TIMEOUT;
    do_wait(&wait);
    wait.timeout = SHMKIT_NOWAIT;
    wait.expected = SHMKIT_ERR_WOULD_BLOCK;
    do_wait(&wait);
    acquire(lock);
    STATUS(SHMKIT_OK, shmkit_lock_mark_consistent(lock));
    release(lock);
    wait.owner_died = 0;
    do_wait(&wait);
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    STATUS(SHMKIT_OK, shmkit_condition_close(condition));
}

/* A condition and its lock are placed in one segment; processes wait and notify through different handles. */
static void test_placed_beside_its_lock(void)
{
    shmkit_segment *segment = managed_segment(NULL, 4096);
    shmkit_condition *made = NULL, *opened = NULL, *none = NULL;
    shmkit_lock *lock = NULL;
    void *data = NULL;
    STATUS(SHMKIT_OK, shmkit_lock_create_at(segment, 0, NULL, &lock));
    STATUS(SHMKIT_OK, shmkit_condition_create_at(segment, 64, NULL, &made));
    STATUS(SHMKIT_OK, shmkit_condition_open_at(segment, 64, NULL, &opened));
    struct wait wait = {.condition = opened, .lock = lock, .timeout = SHMKIT_FOREVER};
    struct holder waiter = holder_run(do_wait, &wait);
    await_waiters(made, 1);
    notify(made, lock, 1);
    CHECK(holder_end(waiter) == 0 && info_of(opened).waits == 1 && info_of(opened).cells == 128);
    /* More cells than the segment has room for. */
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    ((volatile uint16_t *)data)[64 / 2 + 3] = 4096;
    STATUS(SHMKIT_ERR_CORRUPT, shmkit_condition_open_at(segment, 64, NULL, &none));
    CHECK(none == NULL);
    STATUS(SHMKIT_OK, shmkit_condition_close(opened));
    STATUS(SHMKIT_OK, shmkit_condition_close(made));
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

/* Checks that all functions of a condition fail with this lock, and write no output. */
static void refuses_lock(shmkit_status expected, shmkit_condition *condition, void *lock)
{
    uint32_t owner_died = 77;
    STATUS(expected, shmkit_condition_wait(condition, lock, SHMKIT_NOWAIT, 0, &owner_died));
    STATUS(expected, shmkit_condition_notify(condition, lock, 1));
    STATUS(expected, shmkit_condition_notify_all(condition, lock));
    CHECK(owner_died == 77);
}

static void test_bad_locks(void)
{
    _Alignas(64) char block[256] = {0};
    void *odd = check_misaligned();
    shmkit_segment *segment = managed_segment(NULL, 4096);
    shmkit_condition *condition = unnamed(0);
    shmkit_lock *lock = new_lock(), *other = new_lock();
    acquire(lock);
    refuses_lock(SHMKIT_ERR_INVALID, condition, NULL);
    refuses_lock(SHMKIT_ERR_INVALID, condition, odd);
    refuses_lock(SHMKIT_ERR_WRONG_KIND, condition, block);
    refuses_lock(SHMKIT_ERR_WRONG_KIND, condition, segment);
    refuses_lock(SHMKIT_ERR_WRONG_KIND, condition, condition);
    refuses_lock(SHMKIT_ERR_NOT_OWNER, condition, other);
    STATUS(SHMKIT_ERR_INVALID, shmkit_condition_wait(condition, lock, SHMKIT_NOWAIT, 0, odd));
    CHECK(info_of(condition).waits == 0);
    /* A condition accepts only the lock that it was first used with. */
    STATUS(SHMKIT_OK, shmkit_condition_notify(condition, lock, 1));
    acquire(other);
    refuses_lock(SHMKIT_ERR_INVALID, condition, other);
    release(other);
    STATUS(SHMKIT_OK, shmkit_lock_close(other));
    refuses_lock(SHMKIT_ERR_CLOSED, condition, other);
    release(lock);
    STATUS(SHMKIT_OK, shmkit_condition_close(condition));
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void tests(void)
{
    test_sizes();
    test_notify_returns_the_oldest_waiters();
    test_all_cells_in_threads();
    test_recursive_lock();
    test_timeouts();
    test_interrupts();
    test_deaths_of_waiters_and_owner();
    test_placed_beside_its_lock();
    test_bad_locks();
}

int main(void)
{
    return check_main(tests);
}
