/* Barriers in C: turns, timeouts, broken barriers, deaths, the serial party (SHMKIT_BARRIER_SERIAL), bad arguments. */
#include "holder.h"

#include <pthread.h>
#include <sched.h>

static const shmkit_barrier_options TWO = {.struct_size = sizeof(shmkit_barrier_options), .parties = 2};

/* Creates an unnamed barrier. */
static shmkit_barrier *unnamed(uint32_t parties)
{
    shmkit_barrier_options options = {.struct_size = sizeof options, .parties = parties};
    shmkit_barrier *barrier = NULL;
    STATUS(SHMKIT_OK, shmkit_barrier_create(NULL, &options, &barrier));
    return barrier;
}

static shmkit_barrier_info info_of(const shmkit_barrier *barrier)
{
    shmkit_barrier_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_OK, shmkit_barrier_stat(barrier, &info));
    CHECK(info.struct_size == sizeof info);
    return info;
}

/* Waits until `count` parties wait. */
static void await_waiting(const shmkit_barrier *barrier, uint32_t count)
{
    uint32_t waiting = 0;
    while (shmkit_barrier_waiting(barrier, &waiting) == SHMKIT_OK && waiting != count)
        sched_yield();
    CHECK(waiting == count);
}

/* The arguments of a wait in a child, and its expected status. */
struct wait {
    shmkit_barrier *barrier;
    int64_t timeout;
    uint32_t flags;
    shmkit_status expected;
};

static void do_wait(void *argument)
{
    struct wait *wait = argument;
    uint32_t place = 77;
    STATUS(wait->expected, shmkit_barrier_wait(wait->barrier, wait->timeout, wait->flags, &place));
    CHECK((place == 77) == (wait->expected != SHMKIT_OK));
}

/* Starts a child that waits, and returns once `others` + 1 parties wait. */
static struct holder waiter(shmkit_barrier *barrier, shmkit_status expected, uint32_t others)
{
    struct wait wait = {barrier, SHMKIT_FOREVER, 0, expected};
    struct holder child = holder_run(do_wait, &wait);
    await_waiting(barrier, others + 1);
    return child;
}

/* Has all parties arrive once. */
static void complete_a_turn(shmkit_barrier *barrier)
{
    shmkit_barrier_info before = info_of(barrier);
    struct holder others[8];
    uint32_t place = 77;
    for (uint32_t at = 0; at + 1 < before.parties; at++)
        others[at] = waiter(barrier, SHMKIT_OK, at);
    STATUS(SHMKIT_OK, shmkit_barrier_wait(barrier, SHMKIT_FOREVER, 0, &place));
    CHECK(place == before.parties - 1);
    for (uint32_t at = 0; at + 1 < before.parties; at++)
        CHECK(holder_end(others[at]) == 0);
    CHECK(info_of(barrier).turns == before.turns + 1 && info_of(barrier).waiting == 0 && info_of(barrier).flags == 0);
}

enum { PARTIES = 4, TURNS = 2000 };

/* The state that the parties share. Byte n of places[turn] counts the parties that got place n. */
struct turns {
    shmkit_barrier *barrier;
    volatile uint32_t *places;
};

static void take_turns(void *argument)
{
    struct turns *turns = argument;
    bool good = true;
    for (int turn = 0; good && turn < TURNS; turn++) {
        uint32_t place = 77;
        good = shmkit_barrier_wait(turns->barrier, SHMKIT_FOREVER, 0, &place) == SHMKIT_OK && place < PARTIES;
        if (good)
            __atomic_fetch_add(&turns->places[turn], 1u << (8 * place), __ATOMIC_RELAXED);
    }
    CHECK(good);
}

static void *take_turns_in_a_thread(void *argument)
{
    take_turns(argument);
    return NULL;
}

/* Takes part with two threads. Two processes call this function. */
static void take_turns_twice(void *argument)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, take_turns_in_a_thread, argument) == 0);
    take_turns(argument);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void test_each_turn_has_all_places(void)
{
    shmkit_segment *segment = managed_segment(NULL, 16384);
    struct turns turns = {unnamed(PARTIES), NULL};
    void *data = NULL;
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    turns.places = data;
    struct holder other = holder_run(take_turns_twice, &turns);
    take_turns_twice(&turns);
    CHECK(holder_end(other) == 0);
    for (int turn = 0; turn < TURNS; turn++)
        if (!CHECK(turns.places[turn] == 0x01010101))
            break;
    CHECK(info_of(turns.barrier).turns == TURNS && info_of(turns.barrier).breaks == 0);
    STATUS(SHMKIT_OK, shmkit_barrier_close(turns.barrier));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void test_timeouts_and_flags(void)
{
    shmkit_barrier *barrier = unnamed(2);
    uint32_t place = 77, number = 77;
    STATUS(SHMKIT_OK, shmkit_barrier_parties(barrier, &number));
    CHECK(number == 2);
    for (int64_t invalid = -2; invalid > INT64_MIN / 2; invalid *= 1000)
        STATUS(SHMKIT_ERR_INVALID, shmkit_barrier_wait(barrier, invalid, 0, &place));
    for (uint32_t flag = 4; flag != 0; flag <<= 1)
        STATUS(SHMKIT_ERR_INVALID, shmkit_barrier_wait(barrier, SHMKIT_NOWAIT, flag, &place));
    STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_barrier_wait(barrier, SHMKIT_NOWAIT, 0, &place));
    STATUS(SHMKIT_OK, shmkit_barrier_is_broken(barrier, &number));
    CHECK(number == 0 && info_of(barrier).waiting == 0);
    const int64_t times[] = {1, 20000000};
    for (size_t at = 0; at < 2; at++) {
        STATUS(SHMKIT_ERR_TIMEOUT, shmkit_barrier_wait(barrier, times[at], SHMKIT_INTERRUPTIBLE, &place));
        STATUS(SHMKIT_OK, shmkit_barrier_is_broken(barrier, &number));
        CHECK(number == 1 && info_of(barrier).flags == SHMKIT_BARRIER_BROKEN);
        STATUS(SHMKIT_ERR_BROKEN, shmkit_barrier_wait(barrier, SHMKIT_FOREVER, 0, &place));
        STATUS(SHMKIT_ERR_BROKEN, shmkit_barrier_wait(barrier, SHMKIT_NOWAIT, 0, &place));
        STATUS(SHMKIT_OK, shmkit_barrier_reset(barrier));
    }
    const int64_t endless[] = {SHMKIT_FOREVER, (INT64_C(1) << 53) + 1, INT64_MAX};
    for (size_t at = 0; at < 3; at++) {
        struct wait wait = {barrier, endless[at], 0, SHMKIT_OK};
        struct holder other = holder_run(do_wait, &wait);
        await_waiting(barrier, 1);
        STATUS(SHMKIT_OK, shmkit_barrier_wait(barrier, SHMKIT_NOWAIT, 0, NULL));
        CHECK(holder_end(other) == 0);
    }
    CHECK(place == 77);
    STATUS(SHMKIT_OK, shmkit_barrier_close(barrier));
}

static void test_abort_and_reset(void)
{
    shmkit_barrier *barrier = unnamed(3);
    for (uint64_t round = 1; round <= 10; round++) {
        struct holder waiters[2];
        for (uint32_t at = 0; at < 2; at++)
            waiters[at] = waiter(barrier, SHMKIT_ERR_BROKEN, at);
        STATUS(SHMKIT_OK, shmkit_barrier_abort(barrier));
        STATUS(SHMKIT_ERR_BROKEN, shmkit_barrier_wait(barrier, SHMKIT_FOREVER, 0, NULL));
        for (uint32_t at = 0; at < 2; at++)
            CHECK(holder_end(waiters[at]) == 0);
        STATUS(SHMKIT_OK, shmkit_barrier_reset(barrier));
        for (uint32_t at = 0; at < 2; at++)
            waiters[at] = waiter(barrier, SHMKIT_ERR_BROKEN, at);
        STATUS(SHMKIT_OK, shmkit_barrier_reset(barrier));
        complete_a_turn(barrier);
        for (uint32_t at = 0; at < 2; at++)
            CHECK(holder_end(waiters[at]) == 0);
        CHECK(info_of(barrier).breaks == 2 * round && info_of(barrier).deaths == 0 && info_of(barrier).turns == round);
    }
    STATUS(SHMKIT_OK, shmkit_barrier_close(barrier));
}

static void test_death_breaks_the_barrier(void)
{
    shmkit_barrier *barrier = unnamed(3);
    for (int first = 0; first < 2; first++) {
        struct holder children[2];
        for (uint32_t at = 0; at < 2; at++)
            children[at] = waiter(barrier, SHMKIT_ERR_BROKEN, at);
        holder_kill(children[first]);
        /* No other party arrives: the waiter detects the death itself. */
        CHECK(holder_end(children[1 - first]) == 0);
        CHECK(info_of(barrier).flags == SHMKIT_BARRIER_BROKEN);
        STATUS(SHMKIT_ERR_BROKEN, shmkit_barrier_wait(barrier, SHMKIT_FOREVER, 0, NULL));
        STATUS(SHMKIT_OK, shmkit_barrier_reset(barrier));
        complete_a_turn(barrier);
    }
    /* A stopped waiter detects no death, so both deaths are still undetected at the next wait. */
    struct holder both[2];
    for (uint32_t at = 0; at < 2; at++)
        both[at] = waiter(barrier, SHMKIT_ERR_BROKEN, at);
    for (uint32_t at = 0; at < 2; at++)
        CHECK(kill(both[at].pid, SIGSTOP) == 0);
    for (uint32_t at = 0; at < 2; at++)
        holder_kill(both[at]);
    STATUS(SHMKIT_ERR_BROKEN, shmkit_barrier_wait(barrier, SHMKIT_NOWAIT, 0, NULL));
    CHECK(info_of(barrier).deaths == 3);
    STATUS(SHMKIT_OK, shmkit_barrier_reset(barrier));
    complete_a_turn(barrier);
    STATUS(SHMKIT_OK, shmkit_barrier_close(barrier));
}

static void wait_as_serial(void *barrier)
{
    uint32_t place = 77;
    STATUS(SHMKIT_OK, shmkit_barrier_wait(barrier, SHMKIT_FOREVER, SHMKIT_BARRIER_SERIAL, &place));
    CHECK(place == 1);
}

static void release_parties(void *barrier)
{
    STATUS(SHMKIT_OK, shmkit_barrier_release(barrier));
}

static void wait_as_serial_and_close(void *barrier)
{
    wait_as_serial(barrier);
    STATUS(SHMKIT_OK, shmkit_barrier_close(barrier));
}

static void test_serial_party(void)
{
    shmkit_barrier *barrier = NULL;
    STATUS(SHMKIT_OK, shmkit_barrier_create("held", &TWO, &barrier));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_barrier_release(barrier));
    struct holder other = waiter(barrier, SHMKIT_OK, 0);
    struct holder last = holder_start(wait_as_serial, release_parties, barrier);
    CHECK(info_of(barrier).waiting == 2 && info_of(barrier).turns == 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_barrier_release(barrier));
    STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_barrier_wait(barrier, SHMKIT_NOWAIT, 0, NULL));
    /* A timeout before the party was counted does not break the barrier. */
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_barrier_wait(barrier, 5000000, 0, NULL));
    CHECK(info_of(barrier).flags == 0);
    holder_finish(last);
    CHECK(holder_end(other) == 0 && info_of(barrier).turns == 1);
    /* The serial party is killed, or closes its last handle, while it holds the other one back. */
    for (int way = 0; way < 2; way++) {
        other = waiter(barrier, SHMKIT_ERR_BROKEN, 0);
        last = holder_start(way ? wait_as_serial_and_close : wait_as_serial, do_nothing, barrier);
        if (way == 0)
            holder_kill(last);
        CHECK(holder_end(other) == 0);
        if (way != 0)
            holder_finish(last);
        STATUS(SHMKIT_OK, shmkit_barrier_reset(barrier));
    }
    other = waiter(barrier, SHMKIT_ERR_BROKEN, 0);
    wait_as_serial(barrier);
    STATUS(SHMKIT_OK, shmkit_barrier_abort(barrier));
    STATUS(SHMKIT_ERR_BROKEN, shmkit_barrier_release(barrier));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_barrier_release(barrier));
    CHECK(holder_end(other) == 0);
    STATUS(SHMKIT_OK, shmkit_barrier_reset(barrier));
    other = waiter(barrier, SHMKIT_ERR_BROKEN, 0);
    wait_as_serial(barrier);
    STATUS(SHMKIT_OK, shmkit_barrier_reset(barrier));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_barrier_release(barrier));
    CHECK(holder_end(other) == 0);
    complete_a_turn(barrier);
    STATUS(SHMKIT_OK, shmkit_barrier_unlink(barrier));
    STATUS(SHMKIT_OK, shmkit_barrier_close(barrier));
}

/* --- interrupts --------------------------------------------------------------------------------------------------- */

static void ends_at_the_third_call(void *barrier)
{
    int calls = 0;
    struct wait wait = {barrier, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE, SHMKIT_ERR_INTERRUPTED};
    STATUS(SHMKIT_OK, shmkit_set_interrupt(interrupt_third_call, &calls));
    do_wait(&wait);
    CHECK(calls == 3);
}

static void ignores_the_hook(void *barrier)
{
    int calls = 0;
    struct wait wait = {barrier, SHMKIT_FOREVER, 0, SHMKIT_OK};
    STATUS(SHMKIT_OK, shmkit_set_interrupt(interrupt_third_call, &calls));
    do_wait(&wait);
    CHECK(calls == 0);
}

static void test_interrupts(void)
{
    shmkit_barrier *barrier = unnamed(2);
    CHECK(holder_end(holder_run(ends_at_the_third_call, barrier)) == 0);
    CHECK(info_of(barrier).waiting == 0 && info_of(barrier).flags == 0 && info_of(barrier).breaks == 0);
    struct holder other = holder_run(ignores_the_hook, barrier);
    await_waiting(barrier, 1);
    usleep(50000);
    STATUS(SHMKIT_OK, shmkit_barrier_wait(barrier, SHMKIT_FOREVER, 0, NULL));
    CHECK(holder_end(other) == 0);
    STATUS(SHMKIT_OK, shmkit_barrier_close(barrier));
}

/* --- bad options, pointers and bytes ------------------------------------------------------------------------------ */

static void test_parties(void)
{
    shmkit_barrier *barrier = NULL, *opened = NULL;
    shmkit_barrier_options options = TWO;
    uint64_t size = 0, offset = 7;
    int32_t fd = -1;
    const uint32_t parties[] = {0, SHMKIT_BARRIER_MAX_PARTIES + 1, 1u << 15, 1u << 16, UINT32_MAX};
    for (size_t at = 0; at < sizeof parties / sizeof *parties; at++) {
        options.parties = parties[at];
        STATUS(SHMKIT_ERR_INVALID, shmkit_barrier_size(&options, &size));
        STATUS(SHMKIT_ERR_INVALID, shmkit_barrier_create("a", &options, &barrier));
        STATUS(SHMKIT_ERR_INVALID, shmkit_barrier_create(NULL, &options, &barrier));
    }
    CHECK(size == 0);
    options.parties = SHMKIT_BARRIER_MAX_PARTIES;
    STATUS(SHMKIT_OK, shmkit_barrier_size(&options, &size));
    CHECK(size == 128 + 32 * SHMKIT_BARRIER_MAX_PARTIES);
    options = TWO;
    options.reserved = 1;
    STATUS(SHMKIT_ERR_INVALID, shmkit_barrier_create("a", &options, &barrier));
    CHECK(barrier == NULL && check_entries() == 0);
    /* An opener may pass any number of parties; the barrier keeps its own. */
    barrier = unnamed(2);
    options.reserved = 0;
    options.parties = 3;
    STATUS(SHMKIT_OK, shmkit_barrier_fd(barrier, &fd, &offset));
    STATUS(SHMKIT_OK, shmkit_barrier_open_fd(fd, offset, &options, &opened));
    CHECK(info_of(opened).parties == 2);
    STATUS(SHMKIT_OK, shmkit_barrier_close(opened));
    STATUS(SHMKIT_OK, shmkit_barrier_close(barrier));
}

static void test_bad_outputs(void)
{
    shmkit_barrier *barrier = unnamed(2);
    uint32_t *odd = check_misaligned();
    STATUS(SHMKIT_ERR_INVALID, shmkit_barrier_parties(barrier, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_barrier_waiting(barrier, odd));
    STATUS(SHMKIT_ERR_INVALID, shmkit_barrier_is_broken(barrier, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_barrier_wait(barrier, SHMKIT_NOWAIT, 0, odd));
    CHECK(info_of(barrier).flags == 0);
    STATUS(SHMKIT_OK, shmkit_barrier_close(barrier));
}

/* With any bytes in the barrier, calls return a status, and no wait exceeds its timeout. */
static void test_hostile_bytes(void)
{
    shmkit_segment *segment = managed_segment(NULL, 4096);
    shmkit_barrier *barrier = NULL, *none = NULL;
    void *data = NULL;
    STATUS(SHMKIT_OK, shmkit_barrier_create_at(segment, 0, &TWO, &barrier));
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    for (int byte = 0; byte < 256; byte++) {
        uint32_t place = 0;
        memset((char *)data + 8, byte, 184);
        shmkit_status status = shmkit_barrier_wait(barrier, 100000, 0, &place);
        CHECK(status != SHMKIT_OK || place < 2);
        shmkit_barrier_release(barrier);
        STATUS(SHMKIT_OK, shmkit_barrier_abort(barrier));
        CHECK(info_of(barrier).waiting <= 2);
        STATUS(SHMKIT_OK, shmkit_barrier_reset(barrier));
        if (byte % 16 == 0)
            complete_a_turn(barrier);
    }
    /* Invalid numbers of parties, and more parties than the segment has room for. */
    const uint16_t cells[] = {0, 1, 3, 4098, 65535, 4096};
    for (size_t at = 0; at < sizeof cells / sizeof *cells; at++) {
        memcpy((char *)data + 6, &cells[at], 2);
        STATUS(SHMKIT_ERR_CORRUPT, shmkit_barrier_open_at(segment, 0, NULL, &none));
    }
    STATUS(SHMKIT_OK, shmkit_barrier_close(barrier));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void tests(void)
{
    test_each_turn_has_all_places();
    test_timeouts_and_flags();
    test_abort_and_reset();
    test_death_breaks_the_barrier();
    test_serial_party();
    test_interrupts();
    test_parties();
    test_bad_outputs();
    test_hostile_bytes();
}

int main(void)
{
    return check_main(tests);
}
