/* Once, as C has it: who has it to do, who waits, what a death does, and every bad input a C program can give. */
#include "holder.h"

#include <pthread.h>
#include <sched.h>

static const shmkit_object_options PLAIN = {.struct_size = sizeof(shmkit_object_options)};

/* Makes a once without a name. */
static shmkit_once *unnamed(void)
{
    shmkit_once *once = NULL;
    STATUS(SHMKIT_OK, shmkit_once_create(NULL, NULL, &once));
    return once;
}

/* Makes a full segment. */
static shmkit_segment *full(const char *name, uint64_t size)
{
    shmkit_segment *segment = NULL;
    shmkit_segment_options options = {.struct_size = sizeof options, .flags = SHMKIT_SEGMENT_MANAGED};
    STATUS(SHMKIT_OK, shmkit_segment_create(name, size, &options, &segment));
    return segment;
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

static void nothing(void *unused)
{
    (void)unused;
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
    shmkit_segment *segment = full(NULL, 64 * 128);
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

static int32_t third_time(void *calls)
{
    return ++*(int *)calls == 3;
}

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

/* --- where it stands ---------------------------------------------------------------------------------------------- */

static void test_named(void)
{
    shmkit_once *made = NULL, *opened = NULL, *third = NULL;
    shmkit_object_options options = PLAIN;
    shmkit_segment *segment = NULL;
    shmkit_lock *lock = NULL;
    struct stat file;
    int32_t fd = -1;
    uint64_t offset = 7;
    const char *name = NULL;
    options.mode = 0640;
    options.participants = 5;
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_once_open("named", NULL, &opened));
    STATUS(SHMKIT_OK, shmkit_once_create("/named", &options, &made));
    STATUS(SHMKIT_ERR_EXISTS, shmkit_once_create("named", &options, &opened));
    CHECK(opened == NULL && check_entries() == 1);
    CHECK(stat(check_path("named"), &file) == 0 && (file.st_mode & 07777) == 0640);
    STATUS(SHMKIT_OK, shmkit_once_open("named", NULL, &opened));
    STATUS(SHMKIT_OK, shmkit_once_open_or_create("named", NULL, &third));
    begins(made, SHMKIT_NOWAIT, 1, 0);
    CHECK(told(opened).flags == SHMKIT_ONCE_RUNNING && told(third).offset == 0);
    STATUS(SHMKIT_OK, shmkit_once_close(third));
    STATUS(SHMKIT_OK, shmkit_once_fd(made, &fd, &offset));
    STATUS(SHMKIT_OK, shmkit_once_open_fd(fd, offset, &options, &third));
    done(third);
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_unlink(third));
    STATUS(SHMKIT_OK, shmkit_once_close(third));
    STATUS(SHMKIT_OK, shmkit_once_segment(opened, &segment));
    STATUS(SHMKIT_OK, shmkit_segment_name(segment, &name));
    CHECK(strcmp(name, "named") == 0 && is_done(made) == 1);
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    /* The file of a once is no segment and no lock, and a lock no once. */
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_segment_open("named", 0, NULL, &segment));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_lock_open("named", NULL, &lock));
    STATUS(SHMKIT_OK, shmkit_lock_create("lock", NULL, &lock));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_once_open("lock", NULL, &third));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_once_open_or_create("lock", NULL, &third));
    STATUS(SHMKIT_OK, shmkit_lock_unlink(lock));
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    check_file("bytes", 4096);
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_once_open("bytes", NULL, &third));
    CHECK(remove(check_path("bytes")) == 0);
    STATUS(SHMKIT_OK, shmkit_once_unlink(opened));
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_once_unlink(made));
    STATUS(SHMKIT_OK, shmkit_once_close(opened));
    STATUS(SHMKIT_OK, shmkit_once_close(made));
}

static void test_options(void)
{
    shmkit_once *once = NULL;
    shmkit_object_options options = PLAIN;
    uint64_t size = 0;
    STATUS(SHMKIT_OK, shmkit_once_size(NULL, &size));
    CHECK(size == 64);
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_size(NULL, NULL));
    for (uint32_t flag = 1; flag != 0; flag <<= 1) {
        options.flags = flag;
        if (flag == SHMKIT_TRUST || flag == SHMKIT_EXCLUSIVE)
            continue;
        STATUS(SHMKIT_ERR_INVALID, shmkit_once_create("a", &options, &once));
        STATUS(SHMKIT_ERR_INVALID, shmkit_once_create(NULL, &options, &once));
        STATUS(SHMKIT_ERR_INVALID, shmkit_once_size(&options, &size));
    }
    options = PLAIN;
    options.mode = 04755;
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_create("a", &options, &once));
    options = PLAIN;
    options.participants = 4097;
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_create("a", &options, &once));
    options = PLAIN;
    options.directory = "/nowhere";
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_once_create("a", &options, &once));
    options = PLAIN;
    options.struct_size = 8;
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_create("a", &options, &once));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_create("a/b", NULL, &once));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_open(NULL, NULL, &once));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_open_or_create(NULL, NULL, &once));
    CHECK(once == NULL && check_entries() == 0);
    options = PLAIN;
    options.flags = SHMKIT_TRUST;
    STATUS(SHMKIT_OK, shmkit_once_create(NULL, &options, &once));
    STATUS(SHMKIT_OK, shmkit_once_close(once));
}

/* Opens the once that `argument` has, as another process does that was told a descriptor's number and an offset. */
static void open_through_proc(void *argument)
{
    char path[64];
    int32_t fd = -1;
    uint64_t offset = 7;
    shmkit_once *opened = NULL;
    STATUS(SHMKIT_OK, shmkit_once_fd(argument, &fd, &offset));
    snprintf(path, sizeof path, "/proc/%d/fd/%d", getppid(), fd);
    int own = open(path, O_RDWR | O_CLOEXEC);
    STATUS(SHMKIT_OK, shmkit_once_open_fd(own, offset, NULL, &opened));
    close(own);
    does_it(opened);
    STATUS(SHMKIT_OK, shmkit_once_close(opened));
}

static void test_unnamed(void)
{
    shmkit_once *one = unnamed(), *other = unnamed(), *opened = NULL;
    shmkit_lock *lock = NULL;
    int32_t fd[2] = {-1, -1};
    uint64_t offset[2] = {7, 7};
    STATUS(SHMKIT_OK, shmkit_once_fd(one, &fd[0], &offset[0]));
    STATUS(SHMKIT_OK, shmkit_once_fd(other, &fd[1], &offset[1]));
    CHECK(fd[0] == fd[1] && offset[0] != offset[1] && offset[0] % 64 == 0 && told(one).offset == offset[0]);
    CHECK(check_fork(open_through_proc, one) == 0);
    CHECK(is_done(one) == 1 && is_done(other) == 0);
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_open_fd(fd[0], offset[0] + 8, NULL, &opened));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_open_fd(fd[0], UINT64_MAX - 63, NULL, &opened));
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_once_open_fd(fd[0], 1024 * 64 - 64, NULL, &opened));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_open_fd(-1, 0, NULL, &opened));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_lock_open_fd(fd[0], offset[0], NULL, &lock));
    CHECK(opened == NULL && lock == NULL);
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_unlink(one));
    STATUS(SHMKIT_OK, shmkit_once_close(one));
    STATUS(SHMKIT_OK, shmkit_once_close(other));
}

static void test_placed(void)
{
    shmkit_segment *segment = full("placed", 5000), *reader = NULL, *plain = NULL;
    shmkit_segment_options reading = {.struct_size = sizeof reading, .flags = SHMKIT_SEGMENT_READONLY};
    shmkit_object_options exclusive = {.struct_size = sizeof exclusive, .flags = SHMKIT_EXCLUSIVE};
    shmkit_once *made = NULL, *opened = NULL, *none = NULL;
    shmkit_lock *lock = NULL;
    const uint64_t bad[] = {1, 8, 63, 96, 4992, 5000, 5056, UINT64_MAX, UINT64_MAX - 63};
    int32_t fd = -1;
    uint64_t offset = 7;
    void *data = NULL;
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++) {
        STATUS(SHMKIT_ERR_INVALID, shmkit_once_create_at(segment, bad[at], NULL, &none));
        STATUS(SHMKIT_ERR_INVALID, shmkit_once_open_at(segment, bad[at], NULL, &none));
    }
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_once_open_at(segment, 128, NULL, &none));
    STATUS(SHMKIT_OK, shmkit_segment_open("placed", 0, &reading, &reader));
    STATUS(SHMKIT_ERR_PERMISSION, shmkit_once_create_at(reader, 128, NULL, &none));
    STATUS(SHMKIT_OK, shmkit_segment_create(NULL, 5000, NULL, &plain));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_once_create_at(plain, 128, NULL, &none));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_once_open_at(plain, 128, NULL, &none));
    STATUS(SHMKIT_OK, shmkit_once_create_at(segment, 128, &exclusive, &made));
    STATUS(SHMKIT_ERR_EXISTS, shmkit_once_create_at(segment, 128, &exclusive, &none));
    STATUS(SHMKIT_OK, shmkit_once_create_at(segment, 128, &PLAIN, &opened));
    STATUS(SHMKIT_OK, shmkit_once_close(opened));
    STATUS(SHMKIT_ERR_PERMISSION, shmkit_once_open_at(reader, 128, NULL, &none));
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    for (int byte = 1; byte < 256; byte++) {
        memset((char *)data + 256, byte, 64);
        STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_once_create_at(segment, 256, NULL, &none));
        STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_once_open_at(segment, 256, NULL, &none));
        CHECK(((volatile uint8_t *)data)[256] == byte && ((volatile uint8_t *)data)[319] == byte);
    }
    STATUS(SHMKIT_OK, shmkit_lock_create_at(segment, 512, NULL, &lock));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_once_create_at(segment, 512, NULL, &none));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_lock_open_at(segment, 128, NULL, &lock));
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    STATUS(SHMKIT_OK, shmkit_once_open_at(segment, 128, NULL, &opened));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_fd(made, &fd, &offset));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_unlink(made));
    CHECK(fd == -1 && offset == 7 && none == NULL);
    /* The onces keep the memory when the segment's handle goes. */
    STATUS(SHMKIT_OK, shmkit_segment_unlink(segment));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    STATUS(SHMKIT_ERR_CLOSED, shmkit_once_open_at(segment, 128, NULL, &none));
    does_it(made);
    CHECK(is_done(opened) == 1 && told(opened).offset == 128);
    STATUS(SHMKIT_OK, shmkit_once_close(made));
    STATUS(SHMKIT_OK, shmkit_once_close(opened));
    STATUS(SHMKIT_OK, shmkit_segment_close(reader));
    STATUS(SHMKIT_OK, shmkit_segment_close(plain));
}

/* --- bad pointers ------------------------------------------------------------------------------------------------- */

enum { FUNCTIONS = 9 };

/* Calls one function of a handle; what is not told must not be touched. */
static shmkit_status call(size_t function, shmkit_once *once)
{
    shmkit_once_info info = {.struct_size = sizeof info, .attempts = 77};
    shmkit_segment *segment = NULL;
    uint32_t mine = 77, recovered = 77, finished = 77;
    int32_t fd = 77;
    uint64_t offset = 77;
    shmkit_status status = SHMKIT_OK;
    switch (function) {
    case 0: status = shmkit_once_begin(once, SHMKIT_NOWAIT, 0, &mine, &recovered); break;
    case 1: status = shmkit_once_done(once); break;
    case 2: status = shmkit_once_abort(once); break;
    case 3: status = shmkit_once_is_done(once, &finished); break;
    case 4: status = shmkit_once_stat(once, &info); break;
    case 5: status = shmkit_once_unlink(once); break;
    case 6: status = shmkit_once_fd(once, &fd, &offset); break;
    case 7: status = shmkit_once_segment(once, &segment); break;
    case 8: status = shmkit_once_close(once); break;
    }
    CHECK(mine == 77 && recovered == 77 && finished == 77 && fd == 77 && offset == 77 && info.attempts == 77);
    CHECK(segment == NULL);
    return status;
}

static void *close_it(void *once)
{
    STATUS(SHMKIT_OK, shmkit_once_close(once));
    return NULL;
}

static void test_bad_pointers(void)
{
    _Alignas(64) char block[256] = {0};
    void *odd = block + 1;
    shmkit_once *once = unnamed(), *none = NULL;
    shmkit_segment *segment = full(NULL, 4096);
    shmkit_lock *lock = NULL;
    shmkit_once_info info = {.struct_size = 4};
    int32_t fd = 77;
    uint64_t offset = 77;
    pthread_t thread;
    STATUS(SHMKIT_OK, shmkit_lock_create(NULL, NULL, &lock));
    for (size_t function = 0; function < FUNCTIONS; function++) {
        STATUS(function == FUNCTIONS - 1 ? SHMKIT_OK : SHMKIT_ERR_INVALID, call(function, NULL));
        STATUS(SHMKIT_ERR_INVALID, call(function, odd));
        STATUS(SHMKIT_ERR_WRONG_KIND, call(function, (shmkit_once *)block));
        STATUS(SHMKIT_ERR_WRONG_KIND, call(function, (shmkit_once *)segment));
        STATUS(SHMKIT_ERR_WRONG_KIND, call(function, (shmkit_once *)lock));
    }
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_lock_acquire((shmkit_lock *)once, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_once_create_at((shmkit_segment *)once, 0, NULL, &none));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_create_at(NULL, 0, NULL, &none));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_open_at(NULL, 0, NULL, &none));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_create("a", NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_create("a", NULL, odd));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_create("a", odd, &none));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_open("a", NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_open_or_create("a", NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_open_fd(0, 0, NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_create_at(segment, 0, NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_open_at(segment, 0, NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_stat(once, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_stat(once, &info));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_is_done(once, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_is_done(once, odd));
    uint32_t mine = 77;
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_begin(once, SHMKIT_NOWAIT, 0, NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_begin(once, SHMKIT_NOWAIT, 0, odd, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_begin(once, SHMKIT_NOWAIT, 0, &mine, odd));
    CHECK(mine == 77 && told(once).attempts == 0);
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_fd(once, NULL, &offset));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_fd(once, &fd, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_once_segment(once, NULL));
    CHECK(fd == 77 && offset == 77 && none == NULL && check_entries() == 0 && is_done(once) == 0);
    CHECK(pthread_create(&thread, NULL, close_it, once) == 0 && pthread_join(thread, NULL) == 0);
    for (size_t function = 0; function < FUNCTIONS; function++)
        STATUS(SHMKIT_ERR_CLOSED, call(function, once));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

/* Whatever bytes stand in it, there is a status, and nobody waits longer than was asked for. */
static void test_hostile_bytes(void)
{
    shmkit_segment *segment = full(NULL, 4096);
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
