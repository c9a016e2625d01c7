/* Events in C: waiters, signal handlers that set an event, interrupts, and bad arguments. */
#include "holder.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/time.h>

/* Creates an unnamed event. */
static shmkit_event *unnamed(void)
{
    shmkit_event *event = NULL;
    STATUS(SHMKIT_OK, shmkit_event_create(NULL, NULL, &event));
    return event;
}

static shmkit_event_info info_of(const shmkit_event *event)
{
    shmkit_event_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_OK, shmkit_event_stat(event, &info));
    CHECK(info.struct_size == sizeof info);
    return info;
}

static uint32_t is_set(const shmkit_event *event)
{
    uint32_t out = 7;
    STATUS(SHMKIT_OK, shmkit_event_is_set(event, &out));
    return out;
}

/* Waits until `waits` waits have begun to sleep. */
static void await_sleepers(const shmkit_event *event, uint64_t waits)
{
    shmkit_event_info info = {.struct_size = sizeof info};
    while (shmkit_event_stat(event, &info) == SHMKIT_OK && info.waits < waits)
        sched_yield();
}

static void wait_until_set(void *event)
{
    STATUS(SHMKIT_OK, shmkit_event_wait(event, SHMKIT_FOREVER, 0));
}

static void test_set_and_clear(void)
{
    shmkit_event *event = unnamed();
    const int64_t times[] = {SHMKIT_NOWAIT, SHMKIT_FOREVER, 1, INT64_MAX};
    for (uint64_t round = 1; round <= 3; round++) {
        CHECK(is_set(event) == 0 && info_of(event).flags == 0);
        STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_event_wait(event, SHMKIT_NOWAIT, 0));
        STATUS(SHMKIT_ERR_TIMEOUT, shmkit_event_wait(event, 1, 0));
        STATUS(SHMKIT_ERR_TIMEOUT, shmkit_event_wait(event, 20000000, SHMKIT_INTERRUPTIBLE));
        STATUS(SHMKIT_OK, shmkit_event_clear(event));
        STATUS(SHMKIT_OK, shmkit_event_set(event));
        STATUS(SHMKIT_OK, shmkit_event_set(event));
        for (size_t at = 0; at < sizeof times / sizeof *times; at++)
            STATUS(SHMKIT_OK, shmkit_event_wait(event, times[at], SHMKIT_INTERRUPTIBLE));
        CHECK(is_set(event) == 1 && info_of(event).flags == SHMKIT_EVENT_SET && info_of(event).sets == round);
        STATUS(SHMKIT_OK, shmkit_event_clear(event));
    }
    for (int64_t invalid = -2; invalid > INT64_MIN / 2; invalid *= 1000) {
        STATUS(SHMKIT_ERR_INVALID, shmkit_event_wait(event, invalid, 0));
        STATUS(SHMKIT_OK, shmkit_event_set(event));
        STATUS(SHMKIT_ERR_INVALID, shmkit_event_wait(event, invalid, 0));
        STATUS(SHMKIT_OK, shmkit_event_clear(event));
    }
    for (uint32_t flag = 2; flag != 0; flag <<= 1)
        STATUS(SHMKIT_ERR_INVALID, shmkit_event_wait(event, SHMKIT_NOWAIT, flag));
    STATUS(SHMKIT_OK, shmkit_event_close(event));
}

static void test_set_wakes_all_waiters(void)
{
    enum { WAITERS = 4, ROUNDS = 50 };
    shmkit_event *event = unnamed();
    uint64_t waits = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct holder waiters[WAITERS];
        for (int at = 0; at < WAITERS; at++)
            waiters[at] = holder_run(wait_until_set, event);
        await_sleepers(event, waits += WAITERS);
        /* In every third round a waiter is killed. */
        if (round % 3 == 0) {
            holder_kill(waiters[0]);
            waiters[0] = holder_run(wait_until_set, event);
            await_sleepers(event, ++waits);
        }
        STATUS(SHMKIT_OK, shmkit_event_set(event));
        /* Waiters that slept before the set return, although the event is clear again. */
        STATUS(SHMKIT_OK, shmkit_event_clear(event));
        for (int at = 0; at < WAITERS; at++)
            CHECK(holder_end(waiters[at]) == 0);
    }
    CHECK(info_of(event).sets == ROUNDS && info_of(event).waits == waits && info_of(event).flags == 0);
    STATUS(SHMKIT_OK, shmkit_event_close(event));
}

static void *wait_in_a_thread(void *event)
{
    wait_until_set(event);
    return NULL;
}

static void test_threads(void)
{
    shmkit_event *event = unnamed();
    pthread_t threads[4];
    for (int at = 0; at < 4; at++)
        CHECK(pthread_create(&threads[at], NULL, wait_in_a_thread, event) == 0);
    await_sleepers(event, 4);
    STATUS(SHMKIT_OK, shmkit_event_set(event));
    for (int at = 0; at < 4; at++)
        CHECK(pthread_join(threads[at], NULL) == 0);
    STATUS(SHMKIT_OK, shmkit_event_close(event));
}

/* --- signal handlers ---------------------------------------------------------------------------------------------- */

static shmkit_event *handled;
static volatile sig_atomic_t signals;
/* Whether a check failed in the handler, which cannot print. */
static volatile sig_atomic_t wrong;

/* Calls all functions that a signal handler may call, and checks that they keep errno. */
static void handler(int number)
{
    uint32_t set = 7;
    int before = errno;
    errno = 4711;
    wrong |= shmkit_event_clear(handled) != SHMKIT_OK;
    wrong |= shmkit_event_is_set(handled, &set) != SHMKIT_OK || set != 0;
    wrong |= shmkit_event_set(handled) != SHMKIT_OK;
    wrong |= shmkit_event_is_set(handled, &set) != SHMKIT_OK || set != 1;
    wrong |= errno != 4711;
    errno = before;
    signals += number == SIGALRM || number == SIGUSR1;
}

static void catch(int number)
{
    struct sigaction action = {.sa_handler = handler};
    CHECK(sigaction(number, &action, NULL) == 0);
}

/* Waits for an event that the handler sets in the same thread, in the middle of the wait. */
static void wait_for_own_handler(void *event)
{
    handled = event;
    catch(SIGUSR1);
    wait_until_set(event);
    CHECK(signals == 1 && wrong == 0);
}

/* The handler of a timer interrupts calls of the same functions at any instruction, while another process waits. */
static void set_during_timer_signals(void *event)
{
    const struct itimerval often = {{0, 50}, {0, 50}}, off = {{0, 0}, {0, 0}};
    handled = event;
    catch(SIGALRM);
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    bool good = true;
    while (good && signals < 2000) {
        good = shmkit_event_clear(event) == SHMKIT_OK;
        good = good && shmkit_event_set(event) == SHMKIT_OK;
        good = good && shmkit_event_wait(event, SHMKIT_NOWAIT, 0) == SHMKIT_OK;
        shmkit_event_clear(event);
        /* The handler sets the event again. */
        good = good && shmkit_event_wait(event, SHMKIT_FOREVER, 0) == SHMKIT_OK;
    }
    CHECK(setitimer(ITIMER_REAL, &off, NULL) == 0);
    CHECK(good && wrong == 0);
}

static void wait_repeatedly(void *event)
{
    while (shmkit_event_wait(event, SHMKIT_FOREVER, 0) == SHMKIT_OK)
        sched_yield();
}

static void test_signal_handlers(void)
{
    shmkit_event *event = unnamed();
    struct holder waiter = holder_run(wait_for_own_handler, event);
    await_sleepers(event, 1);
    CHECK(kill(waiter.pid, SIGUSR1) == 0);
    CHECK(holder_end(waiter) == 0 && is_set(event) == 1);

    struct holder other = holder_run(wait_repeatedly, event);
    /* In a child, because the test program uses SIGALRM for its deadline. */
    struct holder setter = holder_run(set_during_timer_signals, event);
    CHECK(holder_end(setter) == 0);
    holder_kill(other);
    STATUS(SHMKIT_OK, shmkit_event_close(event));
}

/* --- interrupts --------------------------------------------------------------------------------------------------- */

static void ends_at_the_third_call(void *event)
{
    int calls = 0;
    STATUS(SHMKIT_OK, shmkit_set_interrupt(interrupt_third_call, &calls));
    STATUS(SHMKIT_ERR_INTERRUPTED, shmkit_event_wait(event, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE));
    CHECK(calls == 3);
}

static void ignores_the_hook(void *event)
{
    int calls = 0;
    STATUS(SHMKIT_OK, shmkit_set_interrupt(interrupt_third_call, &calls));
    wait_until_set(event);
    CHECK(calls == 0);
}

static void test_interrupts(void)
{
    shmkit_event *event = unnamed();
    CHECK(holder_end(holder_run(ends_at_the_third_call, event)) == 0);
    struct holder waiter = holder_run(ignores_the_hook, event);
    await_sleepers(event, 2);
    usleep(50000);
    STATUS(SHMKIT_OK, shmkit_event_set(event));
    CHECK(holder_end(waiter) == 0);
    STATUS(SHMKIT_OK, shmkit_event_close(event));
}

/* --- bad pointers and bytes --------------------------------------------------------------------------------------- */

static void test_bad_outputs(void)
{
    shmkit_event *event = unnamed();
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_is_set(event, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_is_set(event, check_misaligned()));
    STATUS(SHMKIT_OK, shmkit_event_close(event));
}

/* With any bytes in the event, calls return a status, and no wait exceeds its timeout. */
static void test_hostile_bytes(void)
{
    shmkit_segment *segment = managed_segment(NULL, 4096);
    shmkit_event *event = NULL;
    void *data = NULL;
    STATUS(SHMKIT_OK, shmkit_event_create_at(segment, 0, NULL, &event));
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    for (int byte = 0; byte < 256; byte++) {
        memset((char *)data + 8, byte, 56);
        STATUS(byte & 1 ? SHMKIT_OK : SHMKIT_ERR_TIMEOUT, shmkit_event_wait(event, 100000, 0));
        CHECK(is_set(event) == (uint32_t)(byte & 1));
        STATUS(SHMKIT_OK, shmkit_event_set(event));
        STATUS(SHMKIT_OK, shmkit_event_wait(event, SHMKIT_NOWAIT, 0));
        STATUS(SHMKIT_OK, shmkit_event_clear(event));
        CHECK(is_set(event) == 0);
    }
    STATUS(SHMKIT_OK, shmkit_event_close(event));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void tests(void)
{
    test_set_and_clear();
    test_set_wakes_all_waiters();
    test_threads();
    test_signal_handlers();
    test_interrupts();
    test_bad_outputs();
    test_hostile_bytes();
}

int main(void)
{
    return check_main(tests);
}
