/* Once, as C has it: who has it to do, who waits, what a death does, and bad arguments. */
#include "holder.h"

#include <pthread.h>
#include <sched.h>

/* Makes a once without a name. */
static shmkit_once *unnamed(void)
{
    shmkit_once *once = NULL;
    STATUS(SHMKIT_OK, shmkit_once_create(NULL, NULL, &once));
    return once;
}

static shmkit_once_info told(const shmkit_once *once)
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

/* Begins, and checks what is told: that it is done, or the caller's to do. */
static void begins(shmkit_once *once, int64_t timeout, uint32_t mine, uint32_t recovered)
{
    uint32_t told[2] = {7, 7};
    STATUS(SHMKIT_OK, shmkit_once_begin(once, timeout, SHMKIT_INTERRUPTIBLE, &told[0], &told[1]));
    CHECK(told[0] == mine && told[1] == recovered);
}

/* Checks that the caller cannot have it. */
static void is_refused(shmkit_status expected, shmkit_once *once, int64_t timeout, uint32_t flags)
{
    uint32_t told[2] = {7, 7};
    STATUS(expected, shmkit_once_begin(once, timeout, flags, &told[0], &told[1]));
    CHECK(told[0] == 7 && told[1] == 7);
}

static void begin(void *once)
{
    begins(once, SHMKIT_FOREVER, 1, 0);
}

static void done(void *once)
{
    STATUS(SHMKIT_OK, shmkit_once_done(once));
}

/* Waits until so many have gone to sleep. */
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
    CHECK(is_done(once) == 0 && told(once).flags == 0);
    begins(once, SHMKIT_NOWAIT, 1, 0);
    is_refused(SHMKIT_ERR_WOULD_BLOCK, once, SHMKIT_NOWAIT, 0);
    is_refused(SHMKIT_ERR_TIMEOUT, once, 2000000, 0);
    CHECK(told(once).flags == SHMKIT_ONCE_RUNNING && told(once).owner_pid == (uint32_t)getpid());
    CHECK(told(once).owner_ticket != 0 && told(once).attempts == 1 && told(once).recoveries == 0);
    STATUS(SHMKIT_OK, shmkit_once_abort(once));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_done(once));
    begins(once, SHMKIT_FOREVER, 1, 0);
    done(once);
    const int64_t times[] = {SHMKIT_NOWAIT, SHMKIT_FOREVER, 1, INT64_MAX};
    for (size_t at = 0; at < sizeof times / sizeof *times; at++)
        begins(once, times[at], 0, 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_done(once));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_abort(once));
    CHECK(is_done(once) == 1 && told(once).flags == SHMKIT_ONCE_DONE && told(once).attempts == 2);
    CHECK(told(once).owner_pid == 0 && told(once).owner_ticket == 0);
    /* Whether somebody died may be of no interest. */
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
        for (int64_t nonsense = -2; nonsense > INT64_MIN / 2; nonsense *= 1000)
            is_refused(SHMKIT_ERR_INVALID, once, nonsense, 0);
        for (uint32_t flag = 2; flag != 0; flag <<= 1)
            is_refused(SHMKIT_ERR_INVALID, once, SHMKIT_NOWAIT, flag);
        if (!finished) {
            begins(once, INT64_MAX, 1, 0);
            done(once);
        }
    }
    STATUS(SHMKIT_OK, shmkit_once_close(once));
}

static void finds_it_done(void *once)
{
    begins(once, SHMKIT_FOREVER, 0, 0);
}

static void does_it(void *once)
{
    begin(once);
    done(once);
}

static void does_it_after_a_death(void *once)
{
    begins(once, SHMKIT_FOREVER, 1, 1);
    done(once);
}

static void cannot_end_it(void *once)
{
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_done(once));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_abort(once));
    is_refused(SHMKIT_ERR_WOULD_BLOCK, once, SHMKIT_NOWAIT, 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_done(once));
}

static void *done_in_a_thread(void *once)
{
    done(once);
    return NULL;
}

static void test_waits(void)
{
    shmkit_once *once = unnamed();
    struct holder waiters[3];
    begin(once);
    CHECK(check_fork(cannot_end_it, once) == 0);
    waiters[0] = holder_run(does_it, once);
    await_sleepers(once, 1);
    STATUS(SHMKIT_OK, shmkit_once_abort(once));
    CHECK(holder_end(waiters[0]) == 0 && is_done(once) == 1);
    STATUS(SHMKIT_OK, shmkit_once_close(once));

    once = unnamed();
    begin(once);
    for (int at = 0; at < 3; at++)
        waiters[at] = holder_run(finds_it_done, once);
    await_sleepers(once, 3);
    holder_kill(waiters[0]);
    /* Any thread of the owner may say that it is done. */
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, done_in_a_thread, once) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(holder_end(waiters[1]) == 0 && holder_end(waiters[2]) == 0 && told(once).waits == 3);
    STATUS(SHMKIT_OK, shmkit_once_close(once));
}

static void test_death(void)
{
    shmkit_once *once = NULL;
    for (int round = 0; round < 3; round++) {
        once = unnamed();
        struct holder owner = holder_start(begin, done, once);
        shmkit_once_info info = told(once);
        CHECK(info.flags == SHMKIT_ONCE_RUNNING && info.owner_pid == (uint32_t)owner.pid && info.owner_namespace != 0);
        is_refused(SHMKIT_ERR_WOULD_BLOCK, once, SHMKIT_NOWAIT, 0);
        holder_kill(owner);
        /* Only begin asks whether it lives. */
        CHECK(told(once).owner_ticket == info.owner_ticket && is_done(once) == 0);
        STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_done(once));
        begins(once, SHMKIT_FOREVER, 1, 1);
        CHECK(told(once).recoveries == 1 && told(once).flags == (SHMKIT_ONCE_RUNNING | SHMKIT_ONCE_OWNER_DIED));
        STATUS(SHMKIT_OK, shmkit_once_abort(once));
        CHECK(told(once).flags == SHMKIT_ONCE_OWNER_DIED);
        /* It is told until it is done. */
        begins(once, SHMKIT_NOWAIT, 1, 1);
        done(once);
        begins(once, SHMKIT_NOWAIT, 0, 0);
        CHECK(told(once).flags == SHMKIT_ONCE_DONE && told(once).attempts == 3);
        STATUS(SHMKIT_OK, shmkit_once_close(once));
    }
    /* Who sleeps when the owner dies takes it over. */
    once = unnamed();
    struct holder owner = holder_start(begin, done, once);
    struct holder next = holder_run(does_it_after_a_death, once);
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

/* Closing is neither done nor abort: who has let go of all handles meanwhile counts as dead. */
static void test_closed_halfway(void)
{
    shmkit_once *once = NULL;
    STATUS(SHMKIT_OK, shmkit_once_create("halfway", NULL, &once));
    struct holder owner = holder_start(begin_and_close, nothing, once);
    begins(once, SHMKIT_FOREVER, 1, 1);
    done(once);
    holder_leave(owner);
    STATUS(SHMKIT_OK, shmkit_once_unlink(once));
    STATUS(SHMKIT_OK, shmkit_once_close(once));
}

/* Something that is done once by all who come at the same time. */
struct race {
    shmkit_once *once;
    volatile uint64_t *done;
};

static void *come(void *argument)
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

static void come_as_a_process(void *race)
{
    come(race);
}

static void test_races(void)
{
    shmkit_segment *segment = managed_segment(NULL, 64 * 128);
    void *data = NULL;
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    for (uint64_t place = 0; place < 120; place++) {
        struct race race = {NULL, (uint64_t *)data + 8 * 120 + place % 60};
        struct holder children[2];
        pthread_t threads[2];
        *race.done = 0;
        STATUS(SHMKIT_OK, shmkit_once_create_at(segment, 64 * place, NULL, &race.once));
        for (int at = 0; at < 2; at++)
            children[at] = holder_run(come_as_a_process, &race);
        for (int at = 0; at < 2; at++)
            CHECK(pthread_create(&threads[at], NULL, come, &race) == 0);
        for (int at = 0; at < 2; at++)
            CHECK(pthread_join(threads[at], NULL) == 0 && holder_end(children[at]) == 0);
        CHECK(is_done(race.once) == 1 && told(race.once).attempts == 1);
        STATUS(SHMKIT_OK, shmkit_once_close(race.once));
    }
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

/* --- interrupts --------------------------------------------------------------------------------------------------- */

static void ends_at_the_third_call(void *once)
{
    int calls = 0;
    STATUS(SHMKIT_OK, shmkit_set_interrupt(third_time, &calls));
    is_refused(SHMKIT_ERR_INTERRUPTED, once, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE);
    CHECK(calls == 3);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_abort(once));
}

static void test_interrupts(void)
{
    shmkit_once *once = unnamed();
    begin(once);
    CHECK(holder_end(holder_run(ends_at_the_third_call, once)) == 0);
    done(once);
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
    CHECK(mine == 77 && told(once).attempts == 0);
    STATUS(SHMKIT_OK, shmkit_once_close(once));
}

/* Whatever bytes stand in it, there is a status, and nobody waits longer than was asked for. */
static void test_hostile_bytes(void)
{
    shmkit_segment *segment = managed_segment(NULL, 4096);
    shmkit_once *once = NULL;
    void *data = NULL;
    STATUS(SHMKIT_OK, shmkit_once_create_at(segment, 0, NULL, &once));
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    for (int byte = 0; byte < 256; byte++) {
        uint32_t mine = 7, recovered = 7;
        memset((char *)data + 8, byte, 56);
        STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_done(once));
        STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_once_abort(once));
        /* The bit that says that it is done, whatever else is there. */
        bool finished = (byte >> 5 & 1) != 0;
        CHECK(is_done(once) == (uint32_t)finished);
        STATUS(SHMKIT_OK, shmkit_once_begin(once, 100000000, 0, &mine, &recovered));
        CHECK(mine == !finished && recovered == (!finished && byte != 0));
        if (!finished)
            done(once);
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
    test_closed_halfway();
    test_races();
    test_interrupts();
    test_bad_outputs();
    test_hostile_bytes();
}

int main(void)
{
    return check_main(tests);
}
