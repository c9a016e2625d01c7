/* Semaphores in C: permits, undo (SEM_UNDO of semop(2)), waits, deaths, signal handlers, and bad arguments. */
#include "check.h"
#include "holder.h"

#include <pthread.h>

typedef shmkit_semaphore SEMAPHORE;

static const shmkit_semaphore_options PLAIN = {.struct_size = sizeof(shmkit_semaphore_options), .value = 1};

static shmkit_semaphore_options with(uint64_t value, uint32_t flags)
{
    shmkit_semaphore_options options = PLAIN;
    options.value = value;
    options.flags = flags;
    return options;
}

static SEMAPHORE *unnamed(uint64_t value, uint32_t flags)
{
    shmkit_semaphore_options options = with(value, flags);
    SEMAPHORE *semaphore = NULL;
    STATUS(SHMKIT_OK, shmkit_semaphore_create(NULL, &options, &semaphore));
    return semaphore;
}

static shmkit_semaphore_info info_of(const SEMAPHORE *semaphore)
{
    shmkit_semaphore_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_OK, shmkit_semaphore_stat(semaphore, &info));
    CHECK(info.struct_size == sizeof info && info.reserved == 0);
    return info;
}

static uint64_t value(const SEMAPHORE *semaphore)
{
    uint64_t out = UINT64_MAX;
    STATUS(SHMKIT_OK, shmkit_semaphore_value(semaphore, &out));
    return out;
}

static uint64_t held(const SEMAPHORE *semaphore)
{
    uint64_t out = UINT64_MAX;
    STATUS(SHMKIT_OK, shmkit_semaphore_held(semaphore, &out));
    return out;
}

static void acquire(void *semaphore)
{
    STATUS(SHMKIT_OK, shmkit_semaphore_acquire(semaphore, 1, SHMKIT_FOREVER, 0));
}

static void release(void *semaphore)
{
    STATUS(SHMKIT_OK, shmkit_semaphore_release(semaphore, 1));
}

static void acquire_two(void *semaphore)
{
    STATUS(SHMKIT_OK, shmkit_semaphore_acquire(semaphore, 2, SHMKIT_FOREVER, 0));
}

static shmkit_status try_acquire(SEMAPHORE *semaphore, uint32_t n)
{
    return shmkit_semaphore_acquire(semaphore, n, SHMKIT_NOWAIT, 0);
}

static void close_semaphore(SEMAPHORE *semaphore)
{
    STATUS(SHMKIT_OK, shmkit_semaphore_close(semaphore));
}

static void test_permits(void)
{
    shmkit_semaphore_options options = with(2, 0);
    SEMAPHORE *semaphore = NULL;
    uint64_t out = 7;
    options.maximum = 3;
    STATUS(SHMKIT_OK, shmkit_semaphore_create(NULL, &options, &semaphore));
    acquire_two(semaphore);
    STATUS(SHMKIT_ERR_WOULD_BLOCK, try_acquire(semaphore, 1));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_semaphore_acquire(semaphore, 1, 2000000, 0));
    STATUS(SHMKIT_OK, shmkit_semaphore_release(semaphore, 3));
    STATUS(SHMKIT_ERR_OVERFLOW, shmkit_semaphore_release(semaphore, 1));
    STATUS(SHMKIT_ERR_OVERFLOW, shmkit_semaphore_release(semaphore, UINT32_MAX));
    STATUS(SHMKIT_OK, try_acquire(semaphore, 2));
    STATUS(SHMKIT_ERR_WOULD_BLOCK, try_acquire(semaphore, 2));
    /* No permits, or more than the maximum, can never be acquired. */
    STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_acquire(semaphore, 0, SHMKIT_FOREVER, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_acquire(semaphore, 4, SHMKIT_FOREVER, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_release(semaphore, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_acquire(semaphore, 1, -2, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_acquire(semaphore, 1, SHMKIT_NOWAIT, 2));
    STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_held(semaphore, &out));
    CHECK(value(semaphore) == 1 && info_of(semaphore).maximum == 3 && out == 7);
    CHECK(info_of(semaphore).flags == 0 && info_of(semaphore).processes == 0 && info_of(semaphore).holders == 0);
    close_semaphore(semaphore);
    /* NULL options create a semaphore without permits, for signalling. */
    STATUS(SHMKIT_OK, shmkit_semaphore_create(NULL, NULL, &semaphore));
    CHECK(value(semaphore) == 0 && info_of(semaphore).maximum == 2147483647);
    CHECK(check_fork(release, semaphore) == 0);
    acquire(semaphore);
    close_semaphore(semaphore);
}

static void release_as_non_holder(void *semaphore)
{
    CHECK(held(semaphore) == 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_semaphore_release(semaphore, 1));
    STATUS(SHMKIT_ERR_WOULD_BLOCK, try_acquire(semaphore, 1));
}

static void *release_in_a_thread(void *semaphore)
{
    release(semaphore);
    return NULL;
}

static void test_undo(void)
{
    SEMAPHORE *two = unnamed(2, SHMKIT_SEMAPHORE_UNDO);
    pthread_t thread;
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_semaphore_release(two, 1));
    acquire_two(two);
    CHECK(held(two) == 2 && value(two) == 0);
    CHECK(check_fork(release_as_non_holder, two) == 0);
    CHECK(pthread_create(&thread, NULL, release_in_a_thread, two) == 0 && pthread_join(thread, NULL) == 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_semaphore_release(two, 2));
    release(two);
    /* If a holder dies, its permits are returned: after an exit, and after a kill. */
    CHECK(check_fork(acquire_two, two) == 0);
    acquire_two(two);
    STATUS(SHMKIT_OK, shmkit_semaphore_release(two, 2));
    struct holder owner = holder_start(acquire_two, release, two);
    CHECK(info_of(two).holders == 1 && info_of(two).flags == SHMKIT_SEMAPHORE_UNDO && info_of(two).processes == 128);
    STATUS(SHMKIT_ERR_WOULD_BLOCK, try_acquire(two, 1));
    holder_kill(owner);
    acquire_two(two);
    CHECK(info_of(two).recoveries == 2 && held(two) == 2);
    close_semaphore(two);
}

static void test_count_slots(void)
{
    shmkit_semaphore_options options = with(3, SHMKIT_SEMAPHORE_UNDO);
    SEMAPHORE *pool = NULL;
    options.processes = 1;
    STATUS(SHMKIT_OK, shmkit_semaphore_create(NULL, &options, &pool));
    struct holder owner = holder_start(acquire, release, pool);
    STATUS(SHMKIT_ERR_TOO_MANY_PROCESSES, try_acquire(pool, 1));
    holder_kill(owner);
    /* The last liveness check is so recent that SHMKIT_NOWAIT may not repeat it. */
    usleep(2000);
    STATUS(SHMKIT_OK, shmkit_semaphore_acquire(pool, 3, SHMKIT_FOREVER, 0));
    close_semaphore(pool);
    pool = unnamed(70000, SHMKIT_SEMAPHORE_UNDO);
    STATUS(SHMKIT_ERR_OVERFLOW, try_acquire(pool, 65536));
    CHECK(value(pool) == 70000);
    close_semaphore(pool);
}

static void test_waits(void)
{
    SEMAPHORE *semaphore = unnamed(0, 0);
    struct holder waiters[3];
    for (size_t at = 0; at < 3; at++)
        waiters[at] = holder_run(acquire, semaphore);
    usleep(20000);
    STATUS(SHMKIT_OK, shmkit_semaphore_release(semaphore, 3));
    for (size_t at = 0; at < 3; at++)
        CHECK(holder_end(waiters[at]) == 0);
    CHECK(value(semaphore) == 0);
    close_semaphore(semaphore);
}

static void ends_at_the_third_call(void *semaphore)
{
    int calls = 0;
    STATUS(SHMKIT_OK, shmkit_set_interrupt(interrupt_third_call, &calls));
    STATUS(SHMKIT_ERR_INTERRUPTED, shmkit_semaphore_acquire(semaphore, 1, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE));
    CHECK(calls == 3);
}

/* The semaphore that the handler below releases. */
static SEMAPHORE *signalled;
static volatile sig_atomic_t failed;

static void release_in_handler(int number)
{
    (void)number;
    failed += shmkit_semaphore_release(signalled, 1) != SHMKIT_OK;
}

/* Signals arrive while this process calls the functions of semaphores and uses the heap. */
static void test_signal_handler(void)
{
    struct sigaction action = {.sa_handler = release_in_handler, .sa_flags = SA_RESTART};
    enum { SIGNALS = 2000 };
    signalled = unnamed(0, 0);
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        for (int at = 0; at < SIGNALS; at++) {
            kill(parent, SIGUSR2);
            /* Pending signals are merged, so each must have arrived before the next is sent. */
            while (shmkit_semaphore_acquire(signalled, 1, SHMKIT_NOWAIT, 0) != SHMKIT_OK)
                usleep(10);
        }
        _exit(0);
    }
    int status = -1;
    while (waitpid(child, &status, WNOHANG) == 0) {
        SEMAPHORE *other = unnamed(1, 0);
        acquire(other);
        release(other);
        close_semaphore(other);
        /* This call fails, so that an error text is allocated and freed. */
        shmkit_semaphore_release(NULL, 1);
    }
    CHECK(status == 0 && failed == 0 && value(signalled) == 0);
    CHECK(signal(SIGUSR2, SIG_DFL) != SIG_ERR);
    close_semaphore(signalled);
}

static void acquire_and_close(void *argument)
{
    SEMAPHORE *semaphore = NULL;
    (void)argument;
    STATUS(SHMKIT_OK, shmkit_semaphore_open("closed", NULL, &semaphore));
    acquire(semaphore);
    close_semaphore(semaphore);
}

static void test_closed_while_held(void)
{
    shmkit_semaphore_options options = with(1, SHMKIT_SEMAPHORE_UNDO);
    SEMAPHORE *semaphore = NULL;
    STATUS(SHMKIT_OK, shmkit_semaphore_create("closed", &options, &semaphore));
    close_semaphore(semaphore);
    struct holder closer = holder_start(acquire_and_close, do_nothing, NULL);
    STATUS(SHMKIT_OK, shmkit_semaphore_open("closed", NULL, &semaphore));
    STATUS(SHMKIT_OK, try_acquire(semaphore, 1));
    holder_finish(closer);
    STATUS(SHMKIT_OK, shmkit_semaphore_unlink(semaphore));
    close_semaphore(semaphore);
}

/* Permits are counted per process, not per handle. create_at ignores the initial value if the semaphore exists. */
static void test_placed_with_undo(void)
{
    shmkit_semaphore_options options = with(2, SHMKIT_SEMAPHORE_UNDO), other = with(1, 0);
    shmkit_segment *segment = managed_segment(NULL, 4096);
    SEMAPHORE *semaphore = NULL, *same = NULL;
    uint64_t size = 0;
    options.processes = 2;
    STATUS(SHMKIT_OK, shmkit_semaphore_size(&options, &size));
    CHECK(size == 128 + 2 * 64);
    STATUS(SHMKIT_OK, shmkit_semaphore_create_at(segment, 64, &options, &semaphore));
    STATUS(SHMKIT_OK, shmkit_semaphore_open_at(segment, 64, NULL, &same));
    acquire_two(same);
    CHECK(held(semaphore) == 2 && info_of(same).processes == 2);
    STATUS(SHMKIT_OK, shmkit_semaphore_release(semaphore, 2));
    close_semaphore(same);
    close_semaphore(semaphore);
    STATUS(SHMKIT_OK, shmkit_semaphore_create_at(segment, 512, &other, &semaphore));
    other.value = 2;
    STATUS(SHMKIT_OK, shmkit_semaphore_create_at(segment, 512, &other, &same));
    CHECK(value(same) == 1);
    close_semaphore(same);
    close_semaphore(semaphore);
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void open_through_proc(void *argument)
{
    char path[64];
    int32_t fd = -1;
    uint64_t offset = 7;
    SEMAPHORE *opened = NULL;
    STATUS(SHMKIT_OK, shmkit_semaphore_fd(argument, &fd, &offset));
    snprintf(path, sizeof path, "/proc/%d/fd/%d", getppid(), fd);
    int own = open(path, O_RDWR | O_CLOEXEC);
    STATUS(SHMKIT_OK, shmkit_semaphore_open_fd(own, offset, NULL, &opened));
    close(own);
    acquire(opened);
    STATUS(SHMKIT_ERR_WOULD_BLOCK, try_acquire(opened, 1));
}

static void test_open_fd_in_a_child(void)
{
    SEMAPHORE *one = unnamed(1, 0), *other = unnamed(1, SHMKIT_SEMAPHORE_UNDO);
    CHECK(check_fork(open_through_proc, one) == 0);
    CHECK(value(one) == 0);
    CHECK(check_fork(open_through_proc, other) == 0);
    acquire(other);
    close_semaphore(one);
    close_semaphore(other);
}

static void test_options(void)
{
    SEMAPHORE *none = NULL;
    shmkit_semaphore_options bad[] = {
        with(2147483648u, 0),
        with(UINT64_MAX, 0),
        with(0, SHMKIT_SEMAPHORE_UNDO),
        {.struct_size = sizeof *bad, .value = 3, .maximum = 2},
        {.struct_size = sizeof *bad, .maximum = 2147483648u},
        {.struct_size = sizeof *bad, .value = 1, .maximum = 2, .flags = SHMKIT_SEMAPHORE_UNDO},
        {.struct_size = sizeof *bad, .value = 1, .processes = 1},
        {.struct_size = sizeof *bad, .value = 1, .processes = 4097, .flags = SHMKIT_SEMAPHORE_UNDO},
        {.struct_size = sizeof *bad, .value = 1, .reserved = 1},
    };
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++) {
        STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_create(NULL, &bad[at], &none));
        STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_create("bad", &bad[at], &none));
    }
    CHECK(none == NULL);
    shmkit_semaphore_options maximum = with(2147483647, 0);
    STATUS(SHMKIT_OK, shmkit_semaphore_create(NULL, &maximum, &none));
    STATUS(SHMKIT_ERR_OVERFLOW, shmkit_semaphore_release(none, 1));
    STATUS(SHMKIT_OK, try_acquire(none, 2147483647));
    close_semaphore(none);
}

static void test_bad_outputs(void)
{
    SEMAPHORE *semaphore = unnamed(1, 0);
    STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_value(semaphore, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_held(semaphore, NULL));
    close_semaphore(semaphore);
}

/* Corrupt bytes are reported as SHMKIT_ERR_CORRUPT. */
static void test_hostile_bytes(void)
{
    shmkit_segment *segment = managed_segment(NULL, 4096);
    SEMAPHORE *semaphore = NULL, *none = NULL;
    void *data = NULL;
    uint64_t out = 7;
    shmkit_semaphore_options options = with(1, 0);
    options.maximum = 2;
    STATUS(SHMKIT_OK, shmkit_semaphore_create_at(segment, 0, &options, &semaphore));
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    uint64_t *words = data;
    words[8] = 3ull << 32;
    STATUS(SHMKIT_ERR_CORRUPT, shmkit_semaphore_value(semaphore, &out));
    STATUS(SHMKIT_ERR_CORRUPT, shmkit_semaphore_release(semaphore, 1));
    shmkit_semaphore_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_ERR_CORRUPT, shmkit_semaphore_stat(semaphore, &info));
    words[9] = 0;
    STATUS(SHMKIT_ERR_CORRUPT, shmkit_semaphore_open_at(segment, 0, NULL, &none));
    CHECK(out == 7 && none == NULL);
    close_semaphore(semaphore);
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void tests(void)
{
    test_permits();
    test_undo();
    test_count_slots();
    test_waits();
    SEMAPHORE *none = unnamed(0, 0);
    CHECK(check_fork(ends_at_the_third_call, none) == 0);
    close_semaphore(none);
    test_signal_handler();
    test_closed_while_held();
    test_placed_with_undo();
    test_open_fd_in_a_child();
    test_options();
    test_bad_outputs();
    test_hostile_bytes();
}

int main(void)
{
    return check_main(tests);
}
