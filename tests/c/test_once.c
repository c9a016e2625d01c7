/* Once flags in C (pthread_once(3)): the owner, waiters, deaths, and bad arguments. */
#include "holder.h"

#include <pthread.h>
#include <sched.h>

/* Creates an unnamed once flag. */
static shmkit_once *unnamed(void)
{
    shmkit_once *once = NULL;
    STATUS(SHMKIT_OK, shmkit_once_create(NULL, NULL, &once));
    return once;
}

static shmkit_once_info info_of(const shmkit_once *once)
{
    shmkit_once_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_OK, shmkit_once_stat(once, &info));
    CHECK(info.struct_size == sizeof info && info.reserved == 0);
    return info;
}

static uint32_t is_done(const shmkit_once *once)
{
    uint32_t out = 7;
    STATUS(SHMKIT_OK, shmkit_once_is_done(once, &out));
    return out;
}

/* Checks that begin returns these outputs: whether the caller must do the work, and whether an owner died. */
static void check_begin(shmkit_once *once, int64_t timeout, uint32_t mine, uint32_t owner_died)
{
    uint32_t out[2] = {7, 7};
    STATUS(SHMKIT_OK, shmkit_once_begin(once, timeout, SHMKIT_INTERRUPTIBLE, &out[0], &out[1]));
    CHECK(out[0] == mine && out[1] == owner_died);
}

/* Checks that begin fails with this status, and writes no output. */
static void check_begin_fails(shmkit_status expected, shmkit_once *once, int64_t timeout, uint32_t flags)
{
    uint32_t out[2] = {7, 7};
    STATUS(expected, shmkit_once_begin(once, timeout, flags, &out[0], &out[1]));
    CHECK(out[0] == 7 && out[1] == 7);
}

static void begin(void *once)
{
    check_begin(once, SHMKIT_FOREVER, 1, 0);
}

static void finish(void *once)
{
    STATUS(SHMKIT_OK, shmkit_once_done(once));
}

/* Waits until `waits` waits have begun to sleep. */
static void await_sleepers(const shmkit_once *once, uint64_t waits)
{
    shmkit_once_info info = {.struct_size = sizeof info};
    while (shmkit_once_stat(once, &info) == SHMKIT_OK && info.waits < waits)
        sched_yield();
}

static void test_begin_and_done(void)
{
    shmkit_once *once = unnamed();
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_done(once));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_abort(once));
    CHECK(is_done(once) == 0 && info_of(once).flags == 0);
    check_begin(once, SHMKIT_NOWAIT, 1, 0);
    check_begin_fails(SHMKIT_ERR_WOULD_BLOCK, once, SHMKIT_NOWAIT, 0);
    check_begin_fails(SHMKIT_ERR_TIMEOUT, once, 2000000, 0);
    CHECK(info_of(once).flags == SHMKIT_ONCE_RUNNING && info_of(once).owner_pid == (uint32_t)getpid());
    CHECK(info_of(once).owner_ticket != 0 && info_of(once).attempts == 1 && info_of(once).recoveries == 0);
    STATUS(SHMKIT_OK, shmkit_once_abort(once));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_done(once));
    check_begin(once, SHMKIT_FOREVER, 1, 0);
    finish(once);
    const int64_t times[] = {SHMKIT_NOWAIT, SHMKIT_FOREVER, 1, INT64_MAX};
    for (size_t at = 0; at < sizeof times / sizeof *times; at++)
        check_begin(once, times[at], 0, 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_done(once));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_abort(once));
    CHECK(is_done(once) == 1 && info_of(once).flags == SHMKIT_ONCE_DONE && info_of(once).attempts == 2);
    CHECK(info_of(once).owner_pid == 0 && info_of(once).owner_ticket == 0);
    /* The output owner_died may be NULL. */
    uint32_t mine = 7;
    STATUS(SHMKIT_OK, shmkit_once_begin(once, SHMKIT_NOWAIT, 0, &mine, NULL));
    CHECK(mine == 0);
    STATUS(SHMKIT_OK, shmkit_once_close(once));
    once = unnamed();
    STATUS(SHMKIT_OK, shmkit_once_begin(once, SHMKIT_NOWAIT, 0, &mine, NULL));
    CHECK(mine == 1);
    STATUS(SHMKIT_OK, shmkit_once_close(once));
}

static void test_timeouts(void)
{
    shmkit_once *once = unnamed();
    for (int finished = 0; finished < 2; finished++) {
        for (int64_t invalid = -2; invalid > INT64_MIN / 2; invalid *= 1000)
            check_begin_fails(SHMKIT_ERR_INVALID, once, invalid, 0);
        for (uint32_t flag = 2; flag != 0; flag <<= 1)
            check_begin_fails(SHMKIT_ERR_INVALID, once, SHMKIT_NOWAIT, flag);
        if (!finished) {
            check_begin(once, INT64_MAX, 1, 0);
            finish(once);
        }
    }
    STATUS(SHMKIT_OK, shmkit_once_close(once));
}

static void begin_after_done(void *once)
{
    check_begin(once, SHMKIT_FOREVER, 0, 0);
}

static void begin_and_finish(void *once)
{
    begin(once);
    finish(once);
}

static void begin_and_finish_after_death(void *once)
{
    check_begin(once, SHMKIT_FOREVER, 1, 1);
    finish(once);
}

static void check_non_owner(void *once)
{
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_done(once));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_abort(once));
    check_begin_fails(SHMKIT_ERR_WOULD_BLOCK, once, SHMKIT_NOWAIT, 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_done(once));
}

static void *finish_in_a_thread(void *once)
{
    finish(once);
    return NULL;
}

static void test_waits(void)
{
    shmkit_once *once = unnamed();
    struct holder waiters[3];
    begin(once);
    CHECK(check_fork(check_non_owner, once) == 0);
    waiters[0] = holder_run(begin_and_finish, once);
    await_sleepers(once, 1);
    STATUS(SHMKIT_OK, shmkit_once_abort(once));
    CHECK(holder_end(waiters[0]) == 0 && is_done(once) == 1);
    STATUS(SHMKIT_OK, shmkit_once_close(once));

    once = unnamed();
    begin(once);
    for (int at = 0; at < 3; at++)
        waiters[at] = holder_run(begin_after_done, once);
    await_sleepers(once, 3);
    holder_kill(waiters[0]);
    /* Any thread of the owner may call shmkit_once_done. */
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, finish_in_a_thread, once) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(holder_end(waiters[1]) == 0 && holder_end(waiters[2]) == 0 && info_of(once).waits == 3);
    STATUS(SHMKIT_OK, shmkit_once_close(once));
}

static void test_death(void)
{
    shmkit_once *once = NULL;
    for (int round = 0; round < 3; round++) {
        once = unnamed();
        struct holder owner = holder_start(begin, finish, once);
        shmkit_once_info info = info_of(once);
        CHECK(info.flags == SHMKIT_ONCE_RUNNING && info.owner_pid == (uint32_t)owner.pid && info.owner_namespace != 0);
        check_begin_fails(SHMKIT_ERR_WOULD_BLOCK, once, SHMKIT_NOWAIT, 0);
        holder_kill(owner);
        /* Only begin checks whether the owner is alive. */
        CHECK(info_of(once).owner_ticket == info.owner_ticket && is_done(once) == 0);
        STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_done(once));
        check_begin(once, SHMKIT_FOREVER, 1, 1);
        CHECK(info_of(once).recoveries == 1 && info_of(once).flags == (SHMKIT_ONCE_RUNNING | SHMKIT_ONCE_OWNER_DIED));
        STATUS(SHMKIT_OK, shmkit_once_abort(once));
        CHECK(info_of(once).flags == SHMKIT_ONCE_OWNER_DIED);
        /* begin returns owner_died = 1 until the work is done. */
        check_begin(once, SHMKIT_NOWAIT, 1, 1);
        finish(once);
        check_begin(once, SHMKIT_NOWAIT, 0, 0);
        CHECK(info_of(once).flags == SHMKIT_ONCE_DONE && info_of(once).attempts == 3);
        STATUS(SHMKIT_OK, shmkit_once_close(once));
    }
    /* If the owner dies, a sleeping waiter becomes the owner. */
    once = unnamed();
    struct holder owner = holder_start(begin, finish, once);
    struct holder next = holder_run(begin_and_finish_after_death, once);
    await_sleepers(once, 1);
    holder_kill(owner);
    CHECK(holder_end(next) == 0 && is_done(once) == 1);
    STATUS(SHMKIT_OK, shmkit_once_close(once));
}

static void begin_and_close(void *once)
{
    begin(once);
    STATUS(SHMKIT_OK, shmkit_once_close(once));
}

/* Closing is neither done nor abort: an owner that closes its last handle counts as dead. */
static void test_closed_while_running(void)
{
    shmkit_once *once = NULL;
    STATUS(SHMKIT_OK, shmkit_once_create("halfway", NULL, &once));
    struct holder owner = holder_start(begin_and_close, do_nothing, once);
    check_begin(once, SHMKIT_FOREVER, 1, 1);
    finish(once);
    holder_finish(owner);
    STATUS(SHMKIT_OK, shmkit_once_unlink(once));
    STATUS(SHMKIT_OK, shmkit_once_close(once));
}

/* Work that several threads and processes begin at the same time. */
struct race {
    shmkit_once *once;
    volatile uint64_t *done;
};

static void *race_in_a_thread(void *argument)
{
    struct race *race = argument;
    uint32_t mine = 7;
    bool good = shmkit_once_begin(race->once, SHMKIT_FOREVER, 0, &mine, NULL) == SHMKIT_OK;
    if (mine == 1) {
        *race->done = *race->done + 1;
        good = good && shmkit_once_done(race->once) == SHMKIT_OK;
    }
    CHECK(good && *race->done == 1);
    return NULL;
}

static void race_in_a_process(void *race)
{
    race_in_a_thread(race);
}

static void test_races(void)
{
    shmkit_segment *segment = managed_segment(NULL, 64 * 128);
    void *data = NULL;
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    for (uint64_t number = 0; number < 120; number++) {
        struct race race = {NULL, (uint64_t *)data + 8 * 120 + number % 60};
        struct holder children[2];
        pthread_t threads[2];
        *race.done = 0;
        STATUS(SHMKIT_OK, shmkit_once_create_at(segment, 64 * number, NULL, &race.once));
        for (int at = 0; at < 2; at++)
            children[at] = holder_run(race_in_a_process, &race);
        for (int at = 0; at < 2; at++)
            CHECK(pthread_create(&threads[at], NULL, race_in_a_thread, &race) == 0);
        for (int at = 0; at < 2; at++)
            CHECK(pthread_join(threads[at], NULL) == 0 && holder_end(children[at]) == 0);
        CHECK(is_done(race.once) == 1 && info_of(race.once).attempts == 1);
        STATUS(SHMKIT_OK, shmkit_once_close(race.once));
    }
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

/* --- interrupts --------------------------------------------------------------------------------------------------- */

static void ends_at_the_third_call(void *once)
{
    int calls = 0;
    STATUS(SHMKIT_OK, shmkit_set_interrupt(interrupt_third_call, &calls));
    check_begin_fails(SHMKIT_ERR_INTERRUPTED, once, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE);
    CHECK(calls == 3);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_abort(once));
}

static void test_interrupts(void)
{
    shmkit_once *once = unnamed();
    begin(once);
    CHECK(holder_end(holder_run(ends_at_the_third_call, once)) == 0);
    finish(once);
    STATUS(SHMKIT_OK, shmkit_once_close(once));
}

/* --- bad pointers and bytes --------------------------------------------------------------------------------------- */

static void test_bad_outputs(void)
{
    shmkit_once *once = unnamed();
    uint32_t mine = 77, *odd = check_misaligned();
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_is_done(once, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_is_done(once, odd));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_begin(once, SHMKIT_NOWAIT, 0, NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_begin(once, SHMKIT_NOWAIT, 0, odd, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_begin(once, SHMKIT_NOWAIT, 0, &mine, odd));
    CHECK(mine == 77 && info_of(once).attempts == 0);
    STATUS(SHMKIT_OK, shmkit_once_close(once));
}

/* With any bytes in the once flag, calls return a status, and no wait exceeds its timeout. */
static void test_hostile_bytes(void)
{
    shmkit_segment *segment = managed_segment(NULL, 4096);
    shmkit_once *once = NULL;
    void *data = NULL;
    STATUS(SHMKIT_OK, shmkit_once_create_at(segment, 0, NULL, &once));
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    for (int byte = 0; byte < 256; byte++) {
        uint32_t mine = 7, owner_died = 7;
        memset((char *)data + 8, byte, 56);
        STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_done(once));
        STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_abort(once));
        /* One bit alone decides whether the work is done. */
        bool finished = (byte >> 5 & 1) != 0;
        CHECK(is_done(once) == (uint32_t)finished);
        STATUS(SHMKIT_OK, shmkit_once_begin(once, 100000000, 0, &mine, &owner_died));
        CHECK(mine == !finished && owner_died == (!finished && byte != 0));
        if (!finished)
            finish(once);
        CHECK(is_done(once) == 1);
    }
    STATUS(SHMKIT_OK, shmkit_once_close(once));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void tests(void)
{
    test_begin_and_done();
    test_timeouts();
    test_waits();
    test_death();
    test_closed_while_running();
    test_races();
    test_interrupts();
    test_bad_outputs();
    test_hostile_bytes();
}

int main(void)
{
    return check_main(tests);
}
