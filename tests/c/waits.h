/* Tests that locks and recursive locks share: waits, exclusion, takeover. Define NOUN first, as for locks.h. */
#ifndef WAITS_H
#define WAITS_H

#include "locks.h"

/* Creates an unnamed lock. */
static LOCK *unnamed(void)
{
    LOCK *lock = NULL;
    STATUS(SHMKIT_OK, CALL(create)(NULL, NULL, &lock));
    return lock;
}

static void acquire_and_release(void *lock)
{
    acquire(lock);
    release(lock);
}

/* The arguments of an acquire in a child, and its expected results. */
struct wait {
    LOCK *lock;
    int64_t timeout;
    uint32_t flags;
    shmkit_status expected;
    uint32_t owner_died;
};

static void do_wait(void *argument)
{
    struct wait *wait = argument;
    uint32_t owner_died = 7;
    STATUS(wait->expected, CALL(acquire)(wait->lock, wait->timeout, wait->flags, &owner_died));
    if (wait->expected == SHMKIT_OK) {
        CHECK(owner_died == wait->owner_died);
        release(wait->lock);
    } else {
        CHECK(owner_died == 7);
        STATUS(SHMKIT_ERR_NOT_OWNER, CALL(release)(wait->lock));
    }
}

static void test_timeouts(void)
{
    const int64_t nonsense[] = {-2, -1000000000, INT64_MIN, INT64_MIN + 1};
    const int64_t good[] = {SHMKIT_NOWAIT, SHMKIT_FOREVER, 1, (INT64_C(1) << 53) + 1, INT64_MAX};
    const int64_t long_enough[] = {SHMKIT_FOREVER, (INT64_C(1) << 53) + 1, INT64_MAX};
    LOCK *lock = unnamed();
    uint32_t owner_died = 7;
    for (size_t at = 0; at < sizeof nonsense / sizeof *nonsense; at++)
        STATUS(SHMKIT_ERR_INVALID, CALL(acquire)(lock, nonsense[at], 0, &owner_died));
    for (uint32_t flag = 2; flag != 0; flag <<= 1)
        STATUS(SHMKIT_ERR_INVALID, CALL(acquire)(lock, SHMKIT_NOWAIT, flag, &owner_died));
    CHECK(owner_died == 7 && info_of(lock).flags == 0);
    for (size_t at = 0; at < sizeof good / sizeof *good; at++) {
        STATUS(SHMKIT_OK, CALL(acquire)(lock, good[at], SHMKIT_INTERRUPTIBLE, &owner_died));
        CHECK(owner_died == 0);
        release(lock);
    }
    struct holder owner = holder_start(acquire, release, lock);
    owner_died = 7;
    STATUS(SHMKIT_ERR_WOULD_BLOCK, CALL(acquire)(lock, SHMKIT_NOWAIT, 0, &owner_died));
    STATUS(SHMKIT_ERR_TIMEOUT, CALL(acquire)(lock, 1, 0, &owner_died));
    STATUS(SHMKIT_ERR_TIMEOUT, CALL(acquire)(lock, 30000000, 0, &owner_died));
    STATUS(SHMKIT_ERR_INVALID, CALL(acquire)(lock, -2, 0, &owner_died));
    CHECK(owner_died == 7 && info_of(lock).owner_pid == (uint32_t)owner.pid);
    holder_finish(owner);
    for (size_t at = 0; at < sizeof long_enough / sizeof *long_enough; at++) {
        struct wait wait = {.lock = lock, .timeout = long_enough[at]};
        acquire(lock);
        struct holder waiter = holder_run(do_wait, &wait);
        await_sleeper(lock);
        release(lock);
        CHECK(holder_end(waiter) == 0);
        CHECK(info_of(lock).contended == at + 1 && info_of(lock).contended_since == 0);
    }
    STATUS(SHMKIT_OK, CALL(close)(lock));
}

static void test_bad_outputs(void)
{
    LOCK *lock = unnamed();
    STATUS(SHMKIT_ERR_INVALID, CALL(acquire)(lock, SHMKIT_NOWAIT, 0, check_misaligned()));
    CHECK(info_of(lock).flags == 0 && info_of(lock).acquisitions == 0);
    STATUS(SHMKIT_OK, CALL(close)(lock));
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
    signals += number == SIGUSR1;
}

/* Installs the handler without SA_RESTART, so that a signal ends a system call with EINTR. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = count_signal};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
}

static int32_t interrupt_after_signal(void *unused)
{
    (void)unused;
    return signals > 0;
}

static int32_t never_interrupt(void *calls)
{
    ++*(int *)calls;
    return 0;
}

static void ends_at_the_third_call(void *argument)
{
    int calls = 0;
    struct wait wait = {argument, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE, SHMKIT_ERR_INTERRUPTED, 0};
    STATUS(SHMKIT_OK, shmkit_set_interrupt(interrupt_third_call, &calls));
    do_wait(&wait);
    CHECK(calls == 3);
}

static void ends_after_a_signal(void *argument)
{
    struct wait wait = {argument, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE, SHMKIT_ERR_INTERRUPTED, 0};
    catch_signals();
    STATUS(SHMKIT_OK, shmkit_set_interrupt(interrupt_after_signal, NULL));
    do_wait(&wait);
}

static void waits_through_signals(void *argument)
{
    int calls = 0;
    struct wait wait = {argument, SHMKIT_FOREVER, 0, SHMKIT_OK, 0};
    catch_signals();
    STATUS(SHMKIT_OK, shmkit_set_interrupt(interrupt_third_call, &calls));
    do_wait(&wait);
    CHECK(calls == 0 && signals > 0);
}

static void waits_while_the_hook_returns_0(void *argument)
{
    int calls = 0;
    struct wait wait = {argument, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE, SHMKIT_OK, 0};
    catch_signals();
    STATUS(SHMKIT_OK, shmkit_set_interrupt(never_interrupt, &calls));
    do_wait(&wait);
    CHECK(calls > 0 && signals > 0);
}

static void test_interrupts(void)
{
    void (*const ending[])(void *) = {ends_at_the_third_call, ends_after_a_signal};
    void (*const continuing[])(void *) = {waits_through_signals, waits_while_the_hook_returns_0};
    LOCK *lock = unnamed();
    acquire(lock);
    for (size_t at = 0; at < 2; at++) {
        struct holder waiter = holder_run(ending[at], lock);
        await_sleeper(lock);
        CHECK(at == 0 || kill(waiter.pid, SIGUSR1) == 0);
        CHECK(holder_end(waiter) == 0 && info_of(lock).owner_pid == (uint32_t)getpid());
        release(lock);
        acquire(lock);
    }
    for (size_t at = 0; at < 2; at++) {
        struct holder waiter = holder_run(continuing[at], lock);
        await_sleeper(lock);
        for (int times = 0; times < 20; times++) {
            CHECK(kill(waiter.pid, SIGUSR1) == 0);
            usleep(2000);
        }
        release(lock);
        CHECK(holder_end(waiter) == 0);
        acquire(lock);
    }
    release(lock);
    STATUS(SHMKIT_OK, CALL(close)(lock));
}

static void test_death(void)
{
    LOCK *lock = unnamed();
    uint32_t owner_died = 7;
    for (uint64_t round = 1; round <= 5; round++) {
        struct holder owner = holder_start(acquire, release, lock);
        struct stat names;
        CHECK(stat("/proc/self/ns/pid", &names) == 0);
        shmkit_lock_info info = info_of(lock);
        CHECK(info.flags == SHMKIT_LOCK_HELD && info.owner_pid == (uint32_t)owner.pid);
        CHECK(info.owner_ticket != 0 && info.owner_namespace == names.st_ino);
        STATUS(SHMKIT_ERR_WOULD_BLOCK, CALL(acquire)(lock, SHMKIT_NOWAIT, 0, NULL));
        STATUS(SHMKIT_ERR_NOT_OWNER, CALL(release)(lock));
        STATUS(SHMKIT_ERR_NOT_OWNER, CALL(mark_consistent)(lock));
        holder_kill(owner);
        /* Only an acquire checks whether the owner is alive. */
        CHECK(info_of(lock).owner_ticket == info.owner_ticket && info_of(lock).flags == SHMKIT_LOCK_HELD);
        STATUS(SHMKIT_ERR_NOT_OWNER, CALL(release)(lock));
        owner_died = 7;
        STATUS(SHMKIT_OK, CALL(acquire)(lock, SHMKIT_FOREVER, 0, &owner_died));
        CHECK(owner_died == 1 && info_of(lock).recoveries == round);
        CHECK(info_of(lock).flags == (SHMKIT_LOCK_HELD | SHMKIT_LOCK_OWNER_DIED));
        release(lock);
        CHECK(info_of(lock).flags == SHMKIT_LOCK_OWNER_DIED);
        STATUS(SHMKIT_ERR_NOT_OWNER, CALL(mark_consistent)(lock));
        owner_died = 7;
        STATUS(SHMKIT_OK, CALL(acquire)(lock, SHMKIT_NOWAIT, 0, &owner_died));
        CHECK(owner_died == 1 && info_of(lock).recoveries == round);
        STATUS(SHMKIT_OK, CALL(mark_consistent)(lock));
        STATUS(SHMKIT_OK, CALL(mark_consistent)(lock));
        release(lock);
        acquire_and_release(lock);
        CHECK(info_of(lock).flags == 0);
    }
    /* If the owner dies, a sleeping waiter takes the lock over. */
    struct holder owner = holder_start(acquire, release, lock);
    struct wait wait = {.lock = lock, .timeout = SHMKIT_FOREVER, .owner_died = 1};
    struct holder waiter = holder_run(do_wait, &wait);
    await_sleeper(lock);
    holder_kill(owner);
    CHECK(holder_end(waiter) == 0 && info_of(lock).flags == SHMKIT_LOCK_OWNER_DIED);
    STATUS(SHMKIT_OK, CALL(acquire)(lock, SHMKIT_FOREVER, 0, NULL));
    STATUS(SHMKIT_OK, CALL(mark_consistent)(lock));
    release(lock);
    STATUS(SHMKIT_OK, CALL(close)(lock));
}

/* A number that is incremented without atomics, so it needs the lock. */
struct account {
    LOCK *lock;
    volatile uint64_t *number;
};

enum { WORKERS = 4, ROUNDS = 20000 };

static void add(void *argument)
{
    struct account *account = argument;
    bool good = true;
    for (int round = 0; round < ROUNDS; round++) {
        good = good && CALL(acquire)(account->lock, SHMKIT_FOREVER, 0, NULL) == SHMKIT_OK;
        *account->number = *account->number + 1;
        good = good && CALL(release)(account->lock) == SHMKIT_OK;
    }
    CHECK(good);
}

static void *add_in_a_thread(void *argument)
{
    add(argument);
    return NULL;
}

static void test_exclusion(void)
{
    shmkit_segment *segment = managed_segment(NULL, 4096);
    struct account account = {NULL, NULL};
    struct holder workers[WORKERS];
    pthread_t threads[WORKERS];
    void *data = NULL;
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    STATUS(SHMKIT_OK, CALL(create_at)(segment, 0, NULL, &account.lock));
    account.number = (uint64_t *)data + 64;
    for (int worker = 0; worker < WORKERS; worker++)
        workers[worker] = holder_run(add, &account);
    for (int worker = 0; worker < WORKERS; worker++)
        CHECK(holder_end(workers[worker]) == 0);
    CHECK(*account.number == (uint64_t)WORKERS * ROUNDS);
    CHECK(info_of(account.lock).acquisitions == (uint64_t)WORKERS * ROUNDS);
    for (int worker = 0; worker < WORKERS; worker++)
        CHECK(pthread_create(&threads[worker], NULL, add_in_a_thread, &account) == 0);
    for (int worker = 0; worker < WORKERS; worker++)
        CHECK(pthread_join(threads[worker], NULL) == 0);
    CHECK(*account.number == UINT64_C(2) * WORKERS * ROUNDS && info_of(account.lock).flags == 0);
    STATUS(SHMKIT_OK, CALL(close)(account.lock));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void acquire_and_close(void *lock)
{
    acquire(lock);
    STATUS(SHMKIT_OK, CALL(close)(lock));
}

/* Closing does not release: an owner that closes its last handle counts as dead. */
static void test_closed_while_held(void)
{
    LOCK *lock = NULL;
    uint32_t owner_died = 7;
    STATUS(SHMKIT_OK, CALL(create)("held", NULL, &lock));
    struct holder owner = holder_start(acquire_and_close, do_nothing, lock);
    STATUS(SHMKIT_OK, CALL(acquire)(lock, SHMKIT_FOREVER, 0, &owner_died));
    CHECK(owner_died == 1);
    release(lock);
    holder_finish(owner);
    STATUS(SHMKIT_OK, CALL(unlink)(lock));
    STATUS(SHMKIT_OK, CALL(close)(lock));
}

static void test_waits(void)
{
    test_timeouts();
    test_bad_outputs();
    test_interrupts();
    test_death();
    test_exclusion();
    test_closed_while_held();
}

#endif
