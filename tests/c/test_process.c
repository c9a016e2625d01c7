/* The edges of a process: forks in signal handlers, forks beside other threads, and the cancellation of threads. */
#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <sys/time.h>
#include <time.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

/* Creates a named lock, claims an identity in it, and removes it. */
static void use_named_lock(const char *name)
{
    shmkit_lock *lock = NULL;
    STATUS(SHMKIT_OK, shmkit_lock_open_or_create(name, NULL, &lock));
    STATUS(SHMKIT_OK, shmkit_lock_acquire(lock, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_OK, shmkit_lock_release(lock));
    STATUS(SHMKIT_OK, shmkit_lock_unlink(lock));
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
}

static void fork_in_handler(int signal)
{
    int status;
    pid_t child = fork();
    (void)signal;
    if (child == 0)
        _exit(0);
    if (child > 0)
        waitpid(child, &status, 0);
}

/* The handler's fork must not wait for the thread that it interrupted. */
static void test_handler_forks_during_claims(void)
{
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (double end = now() + 1; now() < end;)
        use_named_lock("claimed");
    setitimer(ITIMER_REAL, &never, NULL);
    signal(SIGALRM, SIG_DFL);
    alarm(DEADLINE_SECONDS);
}

static int32_t no_hook(void *argument)
{
    (void)argument;
    return 0;
}

static int stop;

static void *set_hooks(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        shmkit_set_interrupt(no_hook, &stop);
        shmkit_set_interrupt(no_hook, NULL);
    }
    return NULL;
}

static void wait_briefly(void *event)
{
    alarm(5);
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_event_wait(event, 3000000, SHMKIT_INTERRUPTIBLE));
}

/* A child that is forked while another thread sets the hook must not wait for that thread. */
static void test_fork_while_a_thread_sets_the_hook(void)
{
    pthread_t thread;
    shmkit_event *event = NULL;
    STATUS(SHMKIT_OK, shmkit_event_create(NULL, NULL, &event));
    stop = 0;
    CHECK(pthread_create(&thread, NULL, set_hooks, NULL) == 0);
    for (int round = 0; round < 300; round++)
        CHECK(check_fork(wait_briefly, event) == 0);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    STATUS(SHMKIT_OK, shmkit_set_interrupt(NULL, NULL));
    STATUS(SHMKIT_OK, shmkit_event_close(event));
}

static void create_lock(void *name)
{
    shmkit_lock *lock = NULL;
    STATUS(SHMKIT_OK, shmkit_lock_create(name, NULL, &lock));
}

/* The random number of a segment must differ in siblings: a condition knows its lock by it. */
static void test_siblings_make_different_segments(void)
{
    char *names[] = {"first", "second"};
    shmkit_lock *locks[2] = {NULL, NULL};
    shmkit_condition *condition = NULL;
    /* The parent may have made a random number that its children inherit. */
    use_named_lock("parent");
    for (int at = 0; at < 2; at++) {
        CHECK(check_fork(create_lock, names[at]) == 0);
        STATUS(SHMKIT_OK, shmkit_lock_open(names[at], NULL, &locks[at]));
        STATUS(SHMKIT_OK, shmkit_lock_acquire(locks[at], SHMKIT_NOWAIT, 0, NULL));
    }
    STATUS(SHMKIT_OK, shmkit_condition_create(NULL, NULL, &condition));
    STATUS(SHMKIT_OK, shmkit_condition_notify(condition, locks[0], 1));
    STATUS(SHMKIT_ERR_INVALID, shmkit_condition_notify(condition, locks[1], 1));
    STATUS(SHMKIT_OK, shmkit_condition_close(condition));
    for (int at = 0; at < 2; at++) {
        STATUS(SHMKIT_OK, shmkit_lock_unlink(locks[at]));
        STATUS(SHMKIT_OK, shmkit_lock_close(locks[at]));
    }
}

static int begun;

static void *use_until_cancelled(void *unused)
{
    (void)unused;
    for (;;) {
        shmkit_queue *queue = NULL;
        shmkit_segment *segment = NULL;
        use_named_lock("cancelled");
        /* The queue grows: that reserves memory, and waits for a lock of the file. */
        STATUS(SHMKIT_OK, shmkit_queue_create(NULL, NULL, &queue));
        STATUS(SHMKIT_OK, shmkit_queue_put(queue, "message", 7, SHMKIT_NOWAIT, 0));
        STATUS(SHMKIT_OK, shmkit_queue_close(queue));
        STATUS(SHMKIT_OK, shmkit_segment_create(NULL, 1 << 16, NULL, &segment));
        STATUS(SHMKIT_OK, shmkit_segment_close(segment));
        __atomic_store_n(&begun, 1, __ATOMIC_RELAXED);
        pthread_testcancel();
    }
    return NULL;
}

/* A cancelled thread ends after the call, and the library works on. */
static void test_cancelled_threads(void)
{
    for (int round = 0; round < 20; round++) {
        pthread_t thread;
        void *result = NULL;
        begun = 0;
        CHECK(pthread_create(&thread, NULL, use_until_cancelled, NULL) == 0);
        while (!__atomic_load_n(&begun, __ATOMIC_RELAXED))
            usleep(100);
        usleep(50 * round);
        CHECK(pthread_cancel(thread) == 0);
        CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
        use_named_lock("cancelled");
    }
}

static void *grow(void *segment)
{
    STATUS(SHMKIT_OK, shmkit_segment_resize(segment, 1 << 17, 0));
    return NULL;
}

/* Threads that wait for one file delay no other: 64 of them were all that could wait. */
static void test_many_threads_wait_for_one_resize(void)
{
    enum { THREADS = 80 };
    pthread_t threads[THREADS];
    shmkit_segment *busy = NULL, *other = NULL;
    shmkit_segment_options options = {.struct_size = sizeof options, .capacity = 1 << 18};
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (1LL << 61) + 2, .l_len = 1};
    STATUS(SHMKIT_OK, shmkit_segment_create("busy", 1 << 16, &options, &busy));
    STATUS(SHMKIT_OK, shmkit_segment_create("other", 1 << 16, &options, &other));
    int resizer = open(check_path("busy"), O_RDWR);
    CHECK(fcntl(resizer, F_OFD_SETLK, &lock) == 0);
    for (int at = 0; at < THREADS; at++)
        CHECK(pthread_create(&threads[at], NULL, grow, busy) == 0);
    usleep(100000);
    alarm(10);
    STATUS(SHMKIT_OK, shmkit_segment_resize(other, 1 << 17, 0));
    alarm(DEADLINE_SECONDS);
    close(resizer);
    for (int at = 0; at < THREADS; at++)
        pthread_join(threads[at], NULL);
    STATUS(SHMKIT_OK, shmkit_segment_unlink(busy));
    STATUS(SHMKIT_OK, shmkit_segment_unlink(other));
    STATUS(SHMKIT_OK, shmkit_segment_close(busy));
    STATUS(SHMKIT_OK, shmkit_segment_close(other));
}

static void tests(void)
{
    test_handler_forks_during_claims();
    test_fork_while_a_thread_sets_the_hook();
    test_siblings_make_different_segments();
    test_cancelled_threads();
    test_many_threads_wait_for_one_resize();
}

int main(void)
{
    return check_main(tests);
}
