/* Events, as C has them: who goes on when, signal handlers that set one, and every bad input a C program can give. */
#include "holder.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/time.h>

static const shmkit_object_options PLAIN = {.struct_size = sizeof(shmkit_object_options)};

/* Makes an event without a name. */
static shmkit_event *unnamed(void)
{
    shmkit_event *event = NULL;
    STATUS(SHMKIT_OK, shmkit_event_create(NULL, NULL, &event));
    return event;
}

/* Makes a full segment. */
static shmkit_segment *full(const char *name, uint64_t size)
{
    shmkit_segment *segment = NULL;
    shmkit_segment_options options = {.struct_size = sizeof options, .flags = SHMKIT_SEGMENT_MANAGED};
    STATUS(SHMKIT_OK, shmkit_segment_create(name, size, &options, &segment));
    return segment;
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

static int32_t third_time(void *calls)
{
    return ++*(int *)calls == 3;
}

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

/* --- where it stands ---------------------------------------------------------------------------------------------- */

static void test_named(void)
{
    shmkit_event *made = NULL, *opened = NULL, *third = NULL;
    shmkit_object_options options = PLAIN;
    shmkit_segment *segment = NULL;
    shmkit_lock *lock = NULL;
    struct stat file;
    int32_t fd = -1;
    uint64_t offset = 7;
    const char *name = NULL;
    options.mode = 0640;
    options.participants = 5;
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_event_open("named", NULL, &opened));
    STATUS(SHMKIT_OK, shmkit_event_create("/named", &options, &made));
    STATUS(SHMKIT_ERR_EXISTS, shmkit_event_create("named", &options, &opened));
    CHECK(opened == NULL && check_entries() == 1);
    CHECK(stat(check_path("named"), &file) == 0 && (file.st_mode & 07777) == 0640);
    STATUS(SHMKIT_OK, shmkit_event_open("named", NULL, &opened));
    STATUS(SHMKIT_OK, shmkit_event_open_or_create("named", NULL, &third));
    STATUS(SHMKIT_OK, shmkit_event_set(made));
    CHECK(is_set(opened) == 1 && is_set(third) == 1 && told(third).offset == 0);
    STATUS(SHMKIT_OK, shmkit_event_close(third));
    STATUS(SHMKIT_OK, shmkit_event_fd(made, &fd, &offset));
    STATUS(SHMKIT_OK, shmkit_event_open_fd(fd, offset, &options, &third));
    STATUS(SHMKIT_OK, shmkit_event_clear(third));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_unlink(third));
    STATUS(SHMKIT_OK, shmkit_event_close(third));
    STATUS(SHMKIT_OK, shmkit_event_segment(opened, &segment));
    STATUS(SHMKIT_OK, shmkit_segment_name(segment, &name));
    CHECK(strcmp(name, "named") == 0 && is_set(made) == 0);
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    /* The file of an event is no segment and no lock, and a lock no event. */
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_segment_open("named", 0, NULL, &segment));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_lock_open("named", NULL, &lock));
    STATUS(SHMKIT_OK, shmkit_lock_create("lock", NULL, &lock));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_event_open("lock", NULL, &third));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_event_open_or_create("lock", NULL, &third));
    STATUS(SHMKIT_OK, shmkit_lock_unlink(lock));
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    check_file("bytes", 4096);
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_event_open("bytes", NULL, &third));
    CHECK(remove(check_path("bytes")) == 0);
    STATUS(SHMKIT_OK, shmkit_event_unlink(opened));
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_event_unlink(made));
    STATUS(SHMKIT_OK, shmkit_event_close(opened));
    STATUS(SHMKIT_OK, shmkit_event_close(made));
}

static void test_options(void)
{
    shmkit_event *event = NULL;
    shmkit_object_options options = PLAIN;
    uint64_t size = 0;
    STATUS(SHMKIT_OK, shmkit_event_size(NULL, &size));
    CHECK(size == 64);
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_size(NULL, NULL));
    for (uint32_t flag = 1; flag != 0; flag <<= 1) {
        options.flags = flag;
        if (flag == SHMKIT_TRUST || flag == SHMKIT_EXCLUSIVE)
            continue;
        STATUS(SHMKIT_ERR_INVALID, shmkit_event_create("a", &options, &event));
        STATUS(SHMKIT_ERR_INVALID, shmkit_event_create(NULL, &options, &event));
        STATUS(SHMKIT_ERR_INVALID, shmkit_event_size(&options, &size));
    }
    options = PLAIN;
    options.mode = 04755;
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_create("a", &options, &event));
    options = PLAIN;
    options.participants = 4097;
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_create("a", &options, &event));
    options = PLAIN;
    options.directory = "/nowhere";
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_event_create("a", &options, &event));
    options = PLAIN;
    options.struct_size = 8;
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_create("a", &options, &event));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_create("a/b", NULL, &event));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_open(NULL, NULL, &event));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_open_or_create(NULL, NULL, &event));
    CHECK(event == NULL && check_entries() == 0);
    options = PLAIN;
    options.flags = SHMKIT_TRUST;
    STATUS(SHMKIT_OK, shmkit_event_create(NULL, &options, &event));
    STATUS(SHMKIT_OK, shmkit_event_close(event));
}

/* Opens the event that `argument` has, as another process does that was told a descriptor's number and an offset. */
static void open_through_proc(void *argument)
{
    char path[64];
    int32_t fd = -1;
    uint64_t offset = 7;
    shmkit_event *opened = NULL;
    STATUS(SHMKIT_OK, shmkit_event_fd(argument, &fd, &offset));
    snprintf(path, sizeof path, "/proc/%d/fd/%d", getppid(), fd);
    int own = open(path, O_RDWR | O_CLOEXEC);
    STATUS(SHMKIT_OK, shmkit_event_open_fd(own, offset, NULL, &opened));
    close(own);
    STATUS(SHMKIT_OK, shmkit_event_set(opened));
    STATUS(SHMKIT_OK, shmkit_event_close(opened));
}

static void test_unnamed(void)
{
    shmkit_event *one = unnamed(), *other = unnamed(), *opened = NULL;
    shmkit_lock *lock = NULL;
    int32_t fd[2] = {-1, -1};
    uint64_t offset[2] = {7, 7};
    STATUS(SHMKIT_OK, shmkit_event_fd(one, &fd[0], &offset[0]));
    STATUS(SHMKIT_OK, shmkit_event_fd(other, &fd[1], &offset[1]));
    CHECK(fd[0] == fd[1] && offset[0] != offset[1] && offset[0] % 64 == 0 && told(one).offset == offset[0]);
    CHECK(check_fork(open_through_proc, one) == 0);
    CHECK(is_set(one) == 1 && is_set(other) == 0);
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_open_fd(fd[0], offset[0] + 8, NULL, &opened));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_open_fd(fd[0], UINT64_MAX - 63, NULL, &opened));
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_event_open_fd(fd[0], 1024 * 64 - 64, NULL, &opened));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_open_fd(-1, 0, NULL, &opened));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_lock_open_fd(fd[0], offset[0], NULL, &lock));
    CHECK(opened == NULL && lock == NULL);
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_unlink(one));
    STATUS(SHMKIT_OK, shmkit_event_close(one));
    STATUS(SHMKIT_OK, shmkit_event_close(other));
}

static void test_placed(void)
{
    shmkit_segment *segment = full("placed", 5000), *reader = NULL, *plain = NULL;
    shmkit_segment_options reading = {.struct_size = sizeof reading, .flags = SHMKIT_SEGMENT_READONLY};
    shmkit_object_options exclusive = {.struct_size = sizeof exclusive, .flags = SHMKIT_EXCLUSIVE};
    shmkit_event *made = NULL, *opened = NULL, *none = NULL;
    shmkit_lock *lock = NULL;
    const uint64_t bad[] = {1, 8, 63, 96, 4992, 5000, 5056, UINT64_MAX, UINT64_MAX - 63};
    int32_t fd = -1;
    uint64_t offset = 7;
    void *data = NULL;
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++) {
        STATUS(SHMKIT_ERR_INVALID, shmkit_event_create_at(segment, bad[at], NULL, &none));
        STATUS(SHMKIT_ERR_INVALID, shmkit_event_open_at(segment, bad[at], NULL, &none));
    }
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_event_open_at(segment, 128, NULL, &none));
    STATUS(SHMKIT_OK, shmkit_segment_open("placed", 0, &reading, &reader));
    STATUS(SHMKIT_ERR_PERMISSION, shmkit_event_create_at(reader, 128, NULL, &none));
    STATUS(SHMKIT_OK, shmkit_segment_create(NULL, 5000, NULL, &plain));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_event_create_at(plain, 128, NULL, &none));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_event_open_at(plain, 128, NULL, &none));
    STATUS(SHMKIT_OK, shmkit_event_create_at(segment, 128, &exclusive, &made));
    STATUS(SHMKIT_ERR_EXISTS, shmkit_event_create_at(segment, 128, &exclusive, &none));
    STATUS(SHMKIT_OK, shmkit_event_create_at(segment, 128, &PLAIN, &opened));
    STATUS(SHMKIT_OK, shmkit_event_close(opened));
    STATUS(SHMKIT_ERR_PERMISSION, shmkit_event_open_at(reader, 128, NULL, &none));
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    for (int byte = 1; byte < 256; byte++) {
        memset((char *)data + 256, byte, 64);
        STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_event_create_at(segment, 256, NULL, &none));
        STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_event_open_at(segment, 256, NULL, &none));
        CHECK(((volatile uint8_t *)data)[256] == byte && ((volatile uint8_t *)data)[319] == byte);
    }
    STATUS(SHMKIT_OK, shmkit_lock_create_at(segment, 512, NULL, &lock));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_event_create_at(segment, 512, NULL, &none));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_lock_open_at(segment, 128, NULL, &lock));
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    STATUS(SHMKIT_OK, shmkit_event_open_at(segment, 128, NULL, &opened));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_fd(made, &fd, &offset));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_unlink(made));
    CHECK(fd == -1 && offset == 7 && none == NULL);
    /* The events keep the memory when the segment's handle goes. */
    STATUS(SHMKIT_OK, shmkit_segment_unlink(segment));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    STATUS(SHMKIT_ERR_CLOSED, shmkit_event_open_at(segment, 128, NULL, &none));
    STATUS(SHMKIT_OK, shmkit_event_set(made));
    CHECK(is_set(opened) == 1 && told(opened).offset == 128);
    STATUS(SHMKIT_OK, shmkit_event_close(made));
    STATUS(SHMKIT_OK, shmkit_event_close(opened));
    STATUS(SHMKIT_OK, shmkit_segment_close(reader));
    STATUS(SHMKIT_OK, shmkit_segment_close(plain));
}

/* --- bad pointers ------------------------------------------------------------------------------------------------- */

enum { FUNCTIONS = 9 };

/* Calls one function of a handle; what is not told must not be touched. */
static shmkit_status call(size_t function, shmkit_event *event)
{
    shmkit_event_info info = {.struct_size = sizeof info, .sets = 77};
    shmkit_segment *segment = NULL;
    uint32_t set = 77;
    int32_t fd = 77;
    uint64_t offset = 77;
    shmkit_status status = SHMKIT_OK;
    switch (function) {
    case 0: status = shmkit_event_set(event); break;
    case 1: status = shmkit_event_clear(event); break;
    case 2: status = shmkit_event_is_set(event, &set); break;
    case 3: status = shmkit_event_wait(event, SHMKIT_NOWAIT, 0); break;
    case 4: status = shmkit_event_stat(event, &info); break;
    case 5: status = shmkit_event_unlink(event); break;
    case 6: status = shmkit_event_fd(event, &fd, &offset); break;
    case 7: status = shmkit_event_segment(event, &segment); break;
    case 8: status = shmkit_event_close(event); break;
    }
    CHECK(set == 77 && fd == 77 && offset == 77 && info.sets == 77 && segment == NULL);
    return status;
}

static void *close_it(void *event)
{
    STATUS(SHMKIT_OK, shmkit_event_close(event));
    return NULL;
}

static void test_bad_pointers(void)
{
    _Alignas(64) char block[256] = {0};
    void *odd = block + 1;
    shmkit_event *event = unnamed(), *none = NULL;
    shmkit_segment *segment = full(NULL, 4096);
    shmkit_lock *lock = NULL;
    shmkit_event_info info = {.struct_size = 4};
    int32_t fd = 77;
    uint64_t offset = 77;
    pthread_t thread;
    STATUS(SHMKIT_OK, shmkit_lock_create(NULL, NULL, &lock));
    for (size_t function = 0; function < FUNCTIONS; function++) {
        STATUS(function == FUNCTIONS - 1 ? SHMKIT_OK : SHMKIT_ERR_INVALID, call(function, NULL));
        STATUS(SHMKIT_ERR_INVALID, call(function, odd));
        STATUS(SHMKIT_ERR_WRONG_KIND, call(function, (shmkit_event *)block));
        STATUS(SHMKIT_ERR_WRONG_KIND, call(function, (shmkit_event *)segment));
        STATUS(SHMKIT_ERR_WRONG_KIND, call(function, (shmkit_event *)lock));
    }
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_lock_acquire((shmkit_lock *)event, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_event_create_at((shmkit_segment *)event, 0, NULL, &none));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_create_at(NULL, 0, NULL, &none));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_open_at(NULL, 0, NULL, &none));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_create("a", NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_create("a", NULL, odd));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_create("a", odd, &none));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_open("a", NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_open_or_create("a", NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_open_fd(0, 0, NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_create_at(segment, 0, NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_open_at(segment, 0, NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_stat(event, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_stat(event, &info));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_is_set(event, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_is_set(event, odd));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_fd(event, NULL, &offset));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_fd(event, &fd, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_event_segment(event, NULL));
    CHECK(fd == 77 && offset == 77 && none == NULL && check_entries() == 0 && is_set(event) == 0);
    CHECK(pthread_create(&thread, NULL, close_it, event) == 0 && pthread_join(thread, NULL) == 0);
    for (size_t function = 0; function < FUNCTIONS; function++)
        STATUS(SHMKIT_ERR_CLOSED, call(function, event));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

/* Whatever bytes stand in it, there is a status, and nobody waits longer than was asked for. */
static void test_hostile_bytes(void)
{
    shmkit_segment *segment = full(NULL, 4096);
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
    test_named();
    test_options();
    test_unnamed();
    test_placed();
    test_bad_pointers();
    test_hostile_bytes();
}

int main(void)
{
    return check_main(tests);
}
