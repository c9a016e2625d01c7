/* How locks of either kind are waited for, counted and taken over: included after locks.h, as that is. */
#ifndef WAITS_H
#define WAITS_H

#include "locks.h"

/* Makes a lock without a name. */
static LOCK *unnamed(void)
{
    LOCK *lock = NULL;
    STATUS(SHMKIT_OK, CALL(create)(NULL, NULL, &lock));
    return lock;
}

static void take_and_give(void *lock)
{
    take(lock);
    give(lock);
}

/* A wait that a child does: how long, and what must come of it. */
struct wait {
    LOCK *lock;
    int64_t timeout;
    uint32_t flags;
    shmkit_status expected;
    uint32_t recovered;
};

static void do_wait(void *argument)
{
    struct wait *wait = argument;
    uint32_t recovered = 7;
    STATUS(wait->expected, CALL(acquire)(wait->lock, wait->timeout, wait->flags, &recovered));
    if (wait->expected == SHMKIT_OK) {
        CHECK(recovered == wait->recovered);
        give(wait->lock);
    } else {
        CHECK(recovered == 7);
        STATUS(SHMKIT_ERR_NOT_OWNER, CALL(release)(wait->lock));
    }
}

static void test_timeouts(void)
{
    const int64_t nonsense[] = {-2, -1000000000, INT64_MIN, INT64_MIN + 1};
    const int64_t good[] = {SHMKIT_NOWAIT, SHMKIT_FOREVER, 1, (INT64_C(1) << 53) + 1, INT64_MAX};
    const int64_t long_enough[] = {SHMKIT_FOREVER, (INT64_C(1) << 53) + 1, INT64_MAX};
    LOCK *lock = unnamed();
    uint32_t recovered = 7;
    for (size_t at = 0; at < sizeof nonsense / sizeof *nonsense; at++)
        STATUS(SHMKIT_ERR_INVALID, CALL(acquire)(lock, nonsense[at], 0, &recovered));
    for (uint32_t flag = 2; flag != 0; flag <<= 1)
        STATUS(SHMKIT_ERR_INVALID, CALL(acquire)(lock, SHMKIT_NOWAIT, flag, &recovered));
    CHECK(recovered == 7 && told(lock).flags == 0);
    for (size_t at = 0; at < sizeof good / sizeof *good; at++) {
        STATUS(SHMKIT_OK, CALL(acquire)(lock, good[at], SHMKIT_INTERRUPTIBLE, &recovered));
        CHECK(recovered == 0);
        give(lock);
    }
    struct holder owner = holder_start(take, give, lock);
    recovered = 7;
    STATUS(SHMKIT_ERR_WOULD_BLOCK, CALL(acquire)(lock, SHMKIT_NOWAIT, 0, &recovered));
    STATUS(SHMKIT_ERR_TIMEOUT, CALL(acquire)(lock, 1, 0, &recovered));
    STATUS(SHMKIT_ERR_TIMEOUT, CALL(acquire)(lock, 30000000, 0, &recovered));
    STATUS(SHMKIT_ERR_INVALID, CALL(acquire)(lock, -2, 0, &recovered));
    CHECK(recovered == 7 && told(lock).owner_pid == (uint32_t)owner.pid);
    holder_leave(owner);
    for (size_t at = 0; at < sizeof long_enough / sizeof *long_enough; at++) {
        struct wait wait = {.lock = lock, .timeout = long_enough[at]};
        take(lock);
        struct holder waiter = holder_run(do_wait, &wait);
        await_sleeper(lock);
        give(lock);
        CHECK(holder_end(waiter) == 0);
        CHECK(told(lock).contended == at + 1 && told(lock).contended_since == 0);
    }
    STATUS(SHMKIT_OK, CALL(close)(lock));
}

static void test_bad_outputs(void)
{
    LOCK *lock = unnamed();
    STATUS(SHMKIT_ERR_INVALID, CALL(acquire)(lock, SHMKIT_NOWAIT, 0, check_misaligned()));
    CHECK(told(lock).flags == 0 && told(lock).acquisitions == 0);
    STATUS(SHMKIT_OK, CALL(close)(lock));
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
    signals += number == SIGUSR1;
}

/* Signals shall end system calls. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = count_signal};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
}

static int32_t once_signalled(void *unused)
{
    (void)unused;
    return signals > 0;
}

static int32_t never(void *calls)
{
    ++*(int *)calls;
    return 0;
}

static void ends_at_the_third_call(void *argument)
{
    int calls = 0;
    struct wait wait = {argument, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE, SHMKIT_ERR_INTERRUPTED, 0};
    STATUS(SHMKIT_OK, shmkit_set_interrupt(third_time, &calls));
    do_wait(&wait);
    CHECK(calls == 3);
}

static void ends_with_a_signal(void *argument)
{
    struct wait wait = {argument, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE, SHMKIT_ERR_INTERRUPTED, 0};
    catch_signals();
    STATUS(SHMKIT_OK, shmkit_set_interrupt(once_signalled, NULL));
    do_wait(&wait);
}

static void goes_on_through_signals(void *argument)
{
    int calls = 0;
    struct wait wait = {argument, SHMKIT_FOREVER, 0, SHMKIT_OK, 0};
    catch_signals();
    STATUS(SHMKIT_OK, shmkit_set_interrupt(third_time, &calls));
    do_wait(&wait);
    CHECK(calls == 0 && signals > 0);
}

static void goes_on_where_the_hook_says_so(void *argument)
{
    int calls = 0;
    struct wait wait = {argument, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE, SHMKIT_OK, 0};
    catch_signals();
    STATUS(SHMKIT_OK, shmkit_set_interrupt(never, &calls));
    do_wait(&wait);
    CHECK(calls > 0 && signals > 0);
}

static void test_interrupts(void)
{
    void (*const ending[])(void *) = {ends_at_the_third_call, ends_with_a_signal};
    void (*const going_on[])(void *) = {goes_on_through_signals, goes_on_where_the_hook_says_so};
    LOCK *lock = unnamed();
    take(lock);
    for (size_t at = 0; at < 2; at++) {
        struct holder waiter = holder_run(ending[at], lock);
        await_sleeper(lock);
        CHECK(at == 0 || kill(waiter.pid, SIGUSR1) == 0);
        CHECK(holder_end(waiter) == 0 && told(lock).owner_pid == (uint32_t)getpid());
        give(lock);
        take(lock);
    }
    for (size_t at = 0; at < 2; at++) {
        struct holder waiter = holder_run(going_on[at], lock);
        await_sleeper(lock);
        for (int times = 0; times < 20; times++) {
            CHECK(kill(waiter.pid, SIGUSR1) == 0);
            usleep(2000);
        }
        give(lock);
        CHECK(holder_end(waiter) == 0);
        take(lock);
    }
    give(lock);
    STATUS(SHMKIT_OK, CALL(close)(lock));
}

static void test_death(void)
{
    LOCK *lock = unnamed();
    uint32_t recovered = 7;
    for (uint64_t round = 1; round <= 5; round++) {
        struct holder owner = holder_start(take, give, lock);
        struct stat names;
        CHECK(stat("/proc/self/ns/pid", &names) == 0);
        shmkit_lock_info info = told(lock);
        CHECK(info.flags == SHMKIT_LOCK_HELD && info.owner_pid == (uint32_t)owner.pid);
        CHECK(info.owner_ticket != 0 && info.owner_namespace == names.st_ino);
        STATUS(SHMKIT_ERR_WOULD_BLOCK, CALL(acquire)(lock, SHMKIT_NOWAIT, 0, NULL));
        STATUS(SHMKIT_ERR_NOT_OWNER, CALL(release)(lock));
        STATUS(SHMKIT_ERR_NOT_OWNER, CALL(mark_consistent)(lock));
        holder_kill(owner);
        /* Only an acquire asks whether the owner lives. */
        CHECK(told(lock).owner_ticket == info.owner_ticket && told(lock).flags == SHMKIT_LOCK_HELD);
        STATUS(SHMKIT_ERR_NOT_OWNER, CALL(release)(lock));
        recovered = 7;
        STATUS(SHMKIT_OK, CALL(acquire)(lock, SHMKIT_FOREVER, 0, &recovered));
        CHECK(recovered == 1 && told(lock).recoveries == round);
        CHECK(told(lock).flags == (SHMKIT_LOCK_HELD | SHMKIT_LOCK_OWNER_DIED));
        give(lock);
        CHECK(told(lock).flags == SHMKIT_LOCK_OWNER_DIED);
        STATUS(SHMKIT_ERR_NOT_OWNER, CALL(mark_consistent)(lock));
        recovered = 7;
        STATUS(SHMKIT_OK, CALL(acquire)(lock, SHMKIT_NOWAIT, 0, &recovered));
        CHECK(recovered == 1 && told(lock).recoveries == round);
        STATUS(SHMKIT_OK, CALL(mark_consistent)(lock));
        STATUS(SHMKIT_OK, CALL(mark_consistent)(lock));
        give(lock);
        take_and_give(lock);
        CHECK(told(lock).flags == 0);
    }
    /* Who sleeps when the owner dies takes the lock over. */
    struct holder owner = holder_start(take, give, lock);
    struct wait wait = {.lock = lock, .timeout = SHMKIT_FOREVER, .recovered = 1};
    struct holder waiter = holder_run(do_wait, &wait);
    await_sleeper(lock);
    holder_kill(owner);
    CHECK(holder_end(waiter) == 0 && told(lock).flags == SHMKIT_LOCK_OWNER_DIED);
    STATUS(SHMKIT_OK, CALL(acquire)(lock, SHMKIT_FOREVER, 0, NULL));
    STATUS(SHMKIT_OK, CALL(mark_consistent)(lock));
    give(lock);
    STATUS(SHMKIT_OK, CALL(close)(lock));
}

/* A number that only a lock keeps right. */
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
    CHECK(told(account.lock).acquisitions == (uint64_t)WORKERS * ROUNDS);
    for (int worker = 0; worker < WORKERS; worker++)
        CHECK(pthread_create(&threads[worker], NULL, add_in_a_thread, &account) == 0);
    for (int worker = 0; worker < WORKERS; worker++)
        CHECK(pthread_join(threads[worker], NULL) == 0);
    CHECK(*account.number == UINT64_C(2) * WORKERS * ROUNDS && told(account.lock).flags == 0);
    STATUS(SHMKIT_OK, CALL(close)(account.lock));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void hold_and_close(void *lock)
{
    take(lock);
    STATUS(SHMKIT_OK, CALL(close)(lock));
}

/* Closing is no release: who has let go of all handles while holding counts as dead. */
static void test_closed_while_held(void)
{
    LOCK *lock = NULL;
    uint32_t recovered = 7;
    STATUS(SHMKIT_OK, CALL(create)("held", NULL, &lock));
    struct holder owner = holder_start(hold_and_close, nothing, lock);
    STATUS(SHMKIT_OK, CALL(acquire)(lock, SHMKIT_FOREVER, 0, &recovered));
    CHECK(recovered == 1);
    give(lock);
    holder_leave(owner);
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
