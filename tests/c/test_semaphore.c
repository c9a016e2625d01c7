/* Semaphores, as C has them: permits, whose they are, waits, deaths, signal handlers, and bad arguments. */
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

static shmkit_semaphore_info told(const SEMAPHORE *semaphore)
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

static void take(void *semaphore)
{
    STATUS(SHMKIT_OK, shmkit_semaphore_acquire(semaphore, 1, SHMKIT_FOREVER, 0));
}

static void give(void *semaphore)
{
    STATUS(SHMKIT_OK, shmkit_semaphore_release(semaphore, 1));
}

static void take_two(void *semaphore)
{
    STATUS(SHMKIT_OK, shmkit_semaphore_acquire(semaphore, 2, SHMKIT_FOREVER, 0));
}

static shmkit_status attempt(SEMAPHORE *semaphore, uint32_t n)
{
    return shmkit_semaphore_acquire(semaphore, n, SHMKIT_NOWAIT, 0);
}

static void done(SEMAPHORE *semaphore)
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
    take_two(semaphore);
    STATUS(SHMKIT_ERR_WOULD_BLOCK, attempt(semaphore, 1));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_semaphore_acquire(semaphore, 1, 2000000, 0));
    STATUS(SHMKIT_OK, shmkit_semaphore_release(semaphore, 3));
    STATUS(SHMKIT_ERR_OVERFLOW, shmkit_semaphore_release(semaphore, 1));
    STATUS(SHMKIT_ERR_OVERFLOW, shmkit_semaphore_release(semaphore, UINT32_MAX));
    STATUS(SHMKIT_OK, attempt(semaphore, 2));
    STATUS(SHMKIT_ERR_WOULD_BLOCK, attempt(semaphore, 2));
    /* None but what could ever be had. */
    STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_acquire(semaphore, 0, SHMKIT_FOREVER, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_acquire(semaphore, 4, SHMKIT_FOREVER, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_release(semaphore, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_acquire(semaphore, 1, -2, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_acquire(semaphore, 1, SHMKIT_NOWAIT, 2));
    STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_held(semaphore, &out));
    CHECK(value(semaphore) == 1 && told(semaphore).maximum == 3 && out == 7);
    CHECK(told(semaphore).flags == 0 && told(semaphore).processes == 0 && told(semaphore).holders == 0);
    done(semaphore);
    /* NULL options: none at first, for signalling. */
    STATUS(SHMKIT_OK, shmkit_semaphore_create(NULL, NULL, &semaphore));
    CHECK(value(semaphore) == 0 && told(semaphore).maximum == 2147483647);
    CHECK(check_fork(give, semaphore) == 0);
    take(semaphore);
    done(semaphore);
}

static void release_as_stranger(void *semaphore)
{
    CHECK(held(semaphore) == 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_semaphore_release(semaphore, 1));
    STATUS(SHMKIT_ERR_WOULD_BLOCK, attempt(semaphore, 1));
}

static void *release_elsewhere(void *semaphore)
{
    give(semaphore);
    return NULL;
}

static void test_undo(void)
{
    SEMAPHORE *two = unnamed(2, SHMKIT_SEMAPHORE_UNDO);
    pthread_t thread;
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_semaphore_release(two, 1));
    take_two(two);
    CHECK(held(two) == 2 && value(two) == 0);
    CHECK(check_fork(release_as_stranger, two) == 0);
    CHECK(pthread_create(&thread, NULL, release_elsewhere, two) == 0 && pthread_join(thread, NULL) == 0);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_semaphore_release(two, 2));
    give(two);
    /* What ends holding gives back: by exit, and by a kill. */
    CHECK(check_fork(take_two, two) == 0);
    take_two(two);
    STATUS(SHMKIT_OK, shmkit_semaphore_release(two, 2));
    struct holder owner = holder_start(take_two, give, two);
    CHECK(told(two).holders == 1 && told(two).flags == SHMKIT_SEMAPHORE_UNDO && told(two).processes == 128);
    STATUS(SHMKIT_ERR_WOULD_BLOCK, attempt(two, 1));
    holder_kill(owner);
    take_two(two);
    CHECK(told(two).recoveries == 2 && held(two) == 2);
    done(two);
}

static void test_cells(void)
{
    shmkit_semaphore_options options = with(3, SHMKIT_SEMAPHORE_UNDO);
    SEMAPHORE *pool = NULL;
    options.processes = 1;
    STATUS(SHMKIT_OK, shmkit_semaphore_create(NULL, &options, &pool));
    struct holder owner = holder_start(take, give, pool);
    STATUS(SHMKIT_ERR_TOO_MANY_PROCESSES, attempt(pool, 1));
    holder_kill(owner);
    /* That it lives was seen just now, so who only tries may not look again. */
    usleep(2000);
    STATUS(SHMKIT_OK, shmkit_semaphore_acquire(pool, 3, SHMKIT_FOREVER, 0));
    done(pool);
    pool = unnamed(70000, SHMKIT_SEMAPHORE_UNDO);
    STATUS(SHMKIT_ERR_OVERFLOW, attempt(pool, 65536));
    CHECK(value(pool) == 70000);
    done(pool);
}

static void test_waits(void)
{
    SEMAPHORE *semaphore = unnamed(0, 0);
    struct holder waiters[3];
    for (size_t at = 0; at < 3; at++)
        waiters[at] = holder_run(take, semaphore);
    usleep(20000);
    STATUS(SHMKIT_OK, shmkit_semaphore_release(semaphore, 3));
    for (size_t at = 0; at < 3; at++)
        CHECK(holder_end(waiters[at]) == 0);
    CHECK(value(semaphore) == 0);
    done(semaphore);
}

static void ends_at_the_third_call(void *semaphore)
{
    int calls = 0;
    STATUS(SHMKIT_OK, shmkit_set_interrupt(third_time, &calls));
    STATUS(SHMKIT_ERR_INTERRUPTED, shmkit_semaphore_acquire(semaphore, 1, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE));
    CHECK(calls == 3);
}

/* What the handler below gives permits to. */
static SEMAPHORE *signalled;
static volatile sig_atomic_t refused;

static void give_in_handler(int number)
{
    (void)number;
    refused += shmkit_semaphore_release(signalled, 1) != SHMKIT_OK;
}

/* A signal comes in the middle of everything that this process does with the semaphore, the heap included. */
static void test_signal_handler(void)
{
    struct sigaction action = {.sa_handler = give_in_handler, .sa_flags = SA_RESTART};
    enum { SIGNALS = 2000 };
    signalled = unnamed(0, 0);
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        for (int at = 0; at < SIGNALS; at++) {
            kill(parent, SIGUSR2);
            /* Each is to be taken before the next: signals that are pending are one. */
            while (shmkit_semaphore_acquire(signalled, 1, SHMKIT_NOWAIT, 0) != SHMKIT_OK)
                usleep(10);
        }
        _exit(0);
    }
    int status = -1;
    while (waitpid(child, &status, WNOHANG) == 0) {
        SEMAPHORE *other = unnamed(1, 0);
        take(other);
        give(other);
        done(other);
        /* Fails, so that a text is made and freed. */
        shmkit_semaphore_release(NULL, 1);
    }
    CHECK(status == 0 && refused == 0 && value(signalled) == 0);
    CHECK(signal(SIGUSR2, SIG_DFL) != SIG_ERR);
    done(signalled);
}

static void hold_and_close(void *argument)
{
    SEMAPHORE *semaphore = NULL;
    (void)argument;
    STATUS(SHMKIT_OK, shmkit_semaphore_open("closed", NULL, &semaphore));
    take(semaphore);
    done(semaphore);
}

static void test_closed_while_held(void)
{
    shmkit_semaphore_options options = with(1, SHMKIT_SEMAPHORE_UNDO);
    SEMAPHORE *semaphore = NULL;
    STATUS(SHMKIT_OK, shmkit_semaphore_create("closed", &options, &semaphore));
    done(semaphore);
    struct holder closer = holder_start(hold_and_close, nothing, NULL);
    STATUS(SHMKIT_OK, shmkit_semaphore_open("closed", NULL, &semaphore));
    STATUS(SHMKIT_OK, attempt(semaphore, 1));
    holder_leave(closer);
    STATUS(SHMKIT_OK, shmkit_semaphore_unlink(semaphore));
    done(semaphore);
}

/* Permits are recorded by process, whichever handle takes them; the value at first is of no interest to an opener. */
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
    take_two(same);
    CHECK(held(semaphore) == 2 && told(same).processes == 2);
    STATUS(SHMKIT_OK, shmkit_semaphore_release(semaphore, 2));
    done(same);
    done(semaphore);
    STATUS(SHMKIT_OK, shmkit_semaphore_create_at(segment, 512, &other, &semaphore));
    other.value = 2;
    STATUS(SHMKIT_OK, shmkit_semaphore_create_at(segment, 512, &other, &same));
    CHECK(value(same) == 1);
    done(same);
    done(semaphore);
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
    take(opened);
    STATUS(SHMKIT_ERR_WOULD_BLOCK, attempt(opened, 1));
}

static void test_handed_over(void)
{
    SEMAPHORE *one = unnamed(1, 0), *other = unnamed(1, SHMKIT_SEMAPHORE_UNDO);
    CHECK(check_fork(open_through_proc, one) == 0);
    CHECK(value(one) == 0);
    CHECK(check_fork(open_through_proc, other) == 0);
    take(other);
    done(one);
    done(other);
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
    shmkit_semaphore_options most = with(2147483647, 0);
    STATUS(SHMKIT_OK, shmkit_semaphore_create(NULL, &most, &none));
    STATUS(SHMKIT_ERR_OVERFLOW, shmkit_semaphore_release(none, 1));
    STATUS(SHMKIT_OK, attempt(none, 2147483647));
    done(none);
}

static void test_bad_outputs(void)
{
    SEMAPHORE *semaphore = unnamed(1, 0);
    STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_value(semaphore, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_semaphore_held(semaphore, NULL));
    done(semaphore);
}

/* Bytes that somebody has written over. */
static void test_hostile(void)
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
    done(semaphore);
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void tests(void)
{
    test_permits();
    test_undo();
    test_cells();
    test_waits();
    SEMAPHORE *none = unnamed(0, 0);
    CHECK(check_fork(ends_at_the_third_call, none) == 0);
    done(none);
    test_signal_handler();
    test_closed_while_held();
    test_placed_with_undo();
    test_handed_over();
    test_options();
    test_bad_outputs();
    test_hostile();
}

int main(void)
{
    return check_main(tests);
}
