/* Events, as C has them: who goes on when, signal handlers that set one, and bad arguments. */
#include "holder.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/time.h>

/* Makes an event without a name. */
static shmkit_event *unnamed(void)
{
    shmkit_event *event = NULL;
    STATUS(SHMKIT_OK, shmkit_event_create(NULL, NULL, &event));
    return event;
}

static shmkit_event_info told(const shmkit_event *event)
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

/* Waits until so many have gone to sleep. */
static void await_sleepers(const shmkit_event *event, uint64_t waits)
{
    shmkit_event_info info = {.struct_size = sizeof info};
    while (shmkit_event_stat(event, &info) == SHMKIT_OK && info.waits < waits)
        sched_yield();
}

static void wait_for_it(void *event)
{
    STATUS(SHMKIT_OK, shmkit_event_wait(event, SHMKIT_FOREVER, 0));
}

static void test_set_and_clear(void)
{
    shmkit_event *event = unnamed();
    const int64_t times[] = {SHMKIT_NOWAIT, SHMKIT_FOREVER, 1, INT64_MAX};
    for (uint64_t round = 1; round <= 3; round++) {
        CHECK(is_set(event) == 0 && told(event).flags == 0);
        STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_event_wait(event, SHMKIT_NOWAIT, 0));
        STATUS(SHMKIT_ERR_TIMEOUT, shmkit_event_wait(event, 1, 0));
        STATUS(SHMKIT_ERR_TIMEOUT, shmkit_event_wait(event, 20000000, SHMKIT_INTERRUPTIBLE));
        STATUS(SHMKIT_OK, shmkit_event_clear(event));
        STATUS(SHMKIT_OK, shmkit_event_set(event));
        STATUS(SHMKIT_OK, shmkit_event_set(event));
        for (size_t at = 0; at < sizeof times / sizeof *times; at++)
            STATUS(SHMKIT_OK, shmkit_event_wait(event, times[at], SHMKIT_INTERRUPTIBLE));
        CHECK(is_set(event) == 1 && told(event).flags == SHMKIT_EVENT_SET && told(event).sets == round);
        STATUS(SHMKIT_OK, shmkit_event_clear(event));
    }
    for (int64_t nonsense = -2; nonsense > INT64_MIN / 2; nonsense *= 1000) {
        STATUS(SHMKIT_ERR_INVALID, shmkit_event_wait(event, nonsense, 0));
        STATUS(SHMKIT_OK, shmkit_event_set(event));
        STATUS(SHMKIT_ERR_INVALID, shmkit_event_wait(event, nonsense, 0));
        STATUS(SHMKIT_OK, shmkit_event_clear(event));
    }
    for (uint32_t flag = 2; flag != 0; flag <<= 1)
        STATUS(SHMKIT_ERR_INVALID, shmkit_event_wait(event, SHMKIT_NOWAIT, flag));
    STATUS(SHMKIT_OK, shmkit_event_close(event));
}

static void test_all_go_on(void)
{
    enum { WAITERS = 4, ROUNDS = 50 };
    shmkit_event *event = unnamed();
    uint64_t waits = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct holder waiters[WAITERS];
        for (int at = 0; at < WAITERS; at++)
            waiters[at] = holder_run(wait_for_it, event);
        await_sleepers(event, waits += WAITERS);
        /* Each third time one of them is killed. */
        if (round % 3 == 0) {
            holder_kill(waiters[0]);
            waiters[0] = holder_run(wait_for_it, event);
            await_sleepers(event, ++waits);
        }
        STATUS(SHMKIT_OK, shmkit_event_set(event));
        /* Who had begun to wait goes on all the same. */
        STATUS(SHMKIT_OK, shmkit_event_clear(event));
        for (int at = 0; at < WAITERS; at++)
            CHECK(holder_end(waiters[at]) == 0);
    }
    CHECK(told(event).sets == ROUNDS && told(event).waits == waits && told(event).flags == 0);
    STATUS(SHMKIT_OK, shmkit_event_close(event));
}

static void *wait_in_a_thread(void *event)
{
    wait_for_it(event);
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
/* What went wrong in a handler, which cannot print. */
static volatile sig_atomic_t wrong;

/* Calls all that a handler may call. */
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

/* A handler sets what the thread that it has interrupted waits for. */
static void wait_for_own_handler(void *event)
{
    handled = event;
    catch(SIGUSR1);
    wait_for_it(event);
    CHECK(signals == 1 && wrong == 0);
}

/* A timer's handler interrupts calls of the same functions at any instruction; somebody else waits all the time. */
static void set_under_a_storm(void *event)
{
    const struct itimerval often = {{0, 50}, {0, 50}}, never = {{0, 0}, {0, 0}};
    handled = event;
    catch(SIGALRM);
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    bool good = true;
    while (good && signals < 2000) {
        good = shmkit_event_clear(event) == SHMKIT_OK;
        good = good && shmkit_event_set(event) == SHMKIT_OK;
        good = good && shmkit_event_wait(event, SHMKIT_NOWAIT, 0) == SHMKIT_OK;
        shmkit_event_clear(event);
        /* The handler sets it again. */
        good = good && shmkit_event_wait(event, SHMKIT_FOREVER, 0) == SHMKIT_OK;
    }
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    CHECK(good && wrong == 0);
}

static void wait_again_and_again(void *event)
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

    struct holder other = holder_run(wait_again_and_again, event);
    /* In a child of its own: everywhere else SIGALRM is the watchdog's. */
    struct holder storm = holder_run(set_under_a_storm, event);
    CHECK(holder_end(storm) == 0);
    holder_kill(other);
    STATUS(SHMKIT_OK, shmkit_event_close(event));
}

/* --- interrupts --------------------------------------------------------------------------------------------------- */

static void ends_at_the_third_call(void *event)
{
    int calls = 0;
    STATUS(SHMKIT_OK, shmkit_set_interrupt(third_time, &calls));
    STATUS(SHMKIT_ERR_INTERRUPTED, shmkit_event_wait(event, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE));
    CHECK(calls == 3);
}

static void asks_nobody(void *event)
{
    int calls = 0;
    STATUS(SHMKIT_OK, shmkit_set_interrupt(third_time, &calls));
    wait_for_it(event);
    CHECK(calls == 0);
}

static void test_interrupts(void)
{
    shmkit_event *event = unnamed();
    CHECK(holder_end(holder_run(ends_at_the_third_call, event)) == 0);
    struct holder patient = holder_run(asks_nobody, event);
    await_sleepers(event, 2);
    usleep(50000);
    STATUS(SHMKIT_OK, shmkit_event_set(event));
    CHECK(holder_end(patient) == 0);
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

/* Whatever bytes stand in it, there is a status, and nobody waits longer than was asked for. */
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
    test_all_go_on();
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
