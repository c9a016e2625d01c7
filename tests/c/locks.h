/*
 * What holds for locks of either kind: included where NOUN is `lock` or `rlock`; test_locks runs all of it.
 */
#ifndef LOCKS_H
#define LOCKS_H

#include "holder.h"

#include <pthread.h>
#include <sched.h>

#define JOIN_NOW(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_NOW(a, b, c)
#define LOCK JOIN(shmkit_, NOUN, )
#define CALL(verb) JOIN(shmkit_, NOUN, _##verb)

static const shmkit_object_options PLAIN = {.struct_size = sizeof(shmkit_object_options)};

/* Makes a lock without a name. */
static LOCK *unnamed(void)
{
    LOCK *lock = NULL;
    STATUS(SHMKIT_OK, CALL(create)(NULL, NULL, &lock));
    return lock;
}

/* Makes a full segment. */
static shmkit_segment *full(const char *name, uint64_t size)
{
    shmkit_segment *segment = NULL;
    shmkit_segment_options options = {.struct_size = sizeof options, .flags = SHMKIT_SEGMENT_MANAGED};
    STATUS(SHMKIT_OK, shmkit_segment_create(name, size, &options, &segment));
    return segment;
}

static shmkit_lock_info told(const LOCK *lock)
{
    shmkit_lock_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_OK, CALL(stat)(lock, &info));
    CHECK(info.struct_size == sizeof info && info.reserved == 0);
    return info;
}

static void take(void *lock)
{
    uint32_t recovered = 7;
    STATUS(SHMKIT_OK, CALL(acquire)(lock, SHMKIT_FOREVER, 0, &recovered));
    CHECK(recovered == 0);
}

static void give(void *lock)
{
    STATUS(SHMKIT_OK, CALL(release)(lock));
}

static void take_and_give(void *lock)
{
    take(lock);
    give(lock);
}

/* Waits until somebody sleeps on the lock. */
static inline void await_sleeper(const LOCK *lock)
{
    while (told(lock).contended_since == 0)
        sched_yield();
}

static void test_sizes(void)
{
    uint64_t size = 0;
    STATUS(SHMKIT_OK, CALL(size)(NULL, &size));
    CHECK(size == 64);
    size = 0;
    STATUS(SHMKIT_OK, CALL(size)(&PLAIN, &size));
    CHECK(size == 64);
    STATUS(SHMKIT_ERR_INVALID, CALL(size)(NULL, NULL));
}

static void test_named(void)
{
    LOCK *made = NULL, *opened = NULL, *third = NULL;
    shmkit_object_options options = PLAIN;
    shmkit_segment *segment = NULL;
    struct stat file;
    int32_t fd = -1;
    uint64_t offset = 7;
    options.mode = 0640;
    options.participants = 5;
    STATUS(SHMKIT_ERR_NOT_FOUND, CALL(open)("named", NULL, &opened));
    STATUS(SHMKIT_OK, CALL(create)("/named", &options, &made));
    STATUS(SHMKIT_ERR_EXISTS, CALL(create)("named", &options, &opened));
    CHECK(opened == NULL && check_entries() == 1);
    CHECK(stat(check_path("named"), &file) == 0 && (file.st_mode & 07777) == 0640);
    STATUS(SHMKIT_OK, CALL(open)("named", NULL, &opened));
    STATUS(SHMKIT_OK, CALL(open_or_create)("named", NULL, &third));
    take(made);
    CHECK(told(opened).flags == SHMKIT_LOCK_HELD && told(third).owner_pid == (uint32_t)getpid());
    give(opened);
    CHECK(told(third).flags == 0 && told(third).acquisitions == 1 && told(third).offset == 0);
    STATUS(SHMKIT_OK, CALL(close)(third));
    STATUS(SHMKIT_OK, CALL(fd)(made, &fd, &offset));
    STATUS(SHMKIT_OK, CALL(open_fd)(fd, offset, &options, &third));
    take_and_give(third);
    STATUS(SHMKIT_ERR_INVALID, CALL(unlink)(third));
    STATUS(SHMKIT_OK, CALL(close)(third));
    /* The file of a lock is no segment, and a segment no lock. */
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_segment_open("named", 0, NULL, &segment));
    segment = full("segment", 64);
    STATUS(SHMKIT_ERR_WRONG_KIND, CALL(open)("segment", NULL, &third));
    STATUS(SHMKIT_ERR_WRONG_KIND, CALL(open_or_create)("segment", NULL, &third));
    STATUS(SHMKIT_OK, shmkit_segment_unlink(segment));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    check_file("bytes", 4096);
    STATUS(SHMKIT_ERR_WRONG_KIND, CALL(open)("bytes", NULL, &third));
    CHECK(remove(check_path("bytes")) == 0);
    STATUS(SHMKIT_OK, CALL(unlink)(opened));
    STATUS(SHMKIT_ERR_NOT_FOUND, CALL(unlink)(made));
    STATUS(SHMKIT_OK, CALL(close)(opened));
    STATUS(SHMKIT_OK, CALL(open_or_create)("named", NULL, &opened));
    take(made);
    STATUS(SHMKIT_OK, CALL(acquire)(opened, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_OK, CALL(unlink)(opened));
    STATUS(SHMKIT_OK, CALL(close)(opened));
    give(made);
    STATUS(SHMKIT_OK, CALL(close)(made));
}

static void test_options(void)
{
    LOCK *lock = NULL;
    shmkit_object_options options = PLAIN;
    const uint32_t wrong[] = {1, SHMKIT_LOCK_HELD, SHMKIT_LOCK_OWNER_DIED, UINT32_C(1) << 31};
    for (size_t at = 0; at < sizeof wrong / sizeof *wrong; at++) {
        options.flags = wrong[at];
        STATUS(SHMKIT_ERR_INVALID, CALL(create)("a", &options, &lock));
        STATUS(SHMKIT_ERR_INVALID, CALL(create)(NULL, &options, &lock));
    }
    options = PLAIN;
    options.mode = 04755;
    STATUS(SHMKIT_ERR_INVALID, CALL(create)("a", &options, &lock));
    options = PLAIN;
    options.participants = 4097;
    STATUS(SHMKIT_ERR_INVALID, CALL(create)("a", &options, &lock));
    options = PLAIN;
    options.directory = "/nowhere";
    STATUS(SHMKIT_ERR_NOT_FOUND, CALL(create)("a", &options, &lock));
    options = PLAIN;
    options.struct_size = 8;
    STATUS(SHMKIT_ERR_INVALID, CALL(create)("a", &options, &lock));
    STATUS(SHMKIT_ERR_INVALID, CALL(create)("a/b", NULL, &lock));
    STATUS(SHMKIT_ERR_INVALID, CALL(open)(NULL, NULL, &lock));
    STATUS(SHMKIT_ERR_INVALID, CALL(open_or_create)(NULL, NULL, &lock));
    CHECK(lock == NULL && check_entries() == 0);
    options = PLAIN;
    options.flags = SHMKIT_TRUST;
    STATUS(SHMKIT_OK, CALL(create)(NULL, &options, &lock));
    STATUS(SHMKIT_OK, CALL(close)(lock));
}

/* Opens the lock that `argument` has, as another process does that was told a descriptor's number and an offset. */
static void open_through_proc(void *argument)
{
    char path[64];
    int32_t fd = -1;
    uint64_t offset = 7;
    LOCK *opened = NULL;
    STATUS(SHMKIT_OK, CALL(fd)(argument, &fd, &offset));
    snprintf(path, sizeof path, "/proc/%d/fd/%d", getppid(), fd);
    int own = open(path, O_RDWR | O_CLOEXEC);
    STATUS(SHMKIT_OK, CALL(open_fd)(own, offset, NULL, &opened));
    close(own);
    STATUS(SHMKIT_ERR_WOULD_BLOCK, CALL(acquire)(opened, SHMKIT_NOWAIT, 0, NULL));
    CHECK(told(opened).owner_pid == (uint32_t)getppid());
    STATUS(SHMKIT_OK, CALL(close)(opened));
}

static void test_unnamed(void)
{
    LOCK *one = unnamed(), *other = unnamed(), *opened = NULL;
    int32_t fd[2] = {-1, -1};
    uint64_t offset[2] = {7, 7};
    STATUS(SHMKIT_OK, CALL(fd)(one, &fd[0], &offset[0]));
    STATUS(SHMKIT_OK, CALL(fd)(other, &fd[1], &offset[1]));
    CHECK(fd[0] == fd[1] && offset[0] != offset[1] && offset[0] % 64 == 0);
    CHECK(told(one).offset == offset[0]);
    take(one);
    take_and_give(other);
    STATUS(SHMKIT_OK, CALL(open_fd)(fd[0], offset[0], NULL, &opened));
    CHECK(told(opened).owner_pid == (uint32_t)getpid());
    STATUS(SHMKIT_OK, CALL(close)(opened));
    opened = NULL;
    CHECK(check_fork(open_through_proc, one) == 0);
    give(one);
    STATUS(SHMKIT_ERR_INVALID, CALL(open_fd)(fd[0], offset[0] + 8, NULL, &opened));
    STATUS(SHMKIT_ERR_INVALID, CALL(open_fd)(fd[0], UINT64_MAX - 63, NULL, &opened));
    STATUS(SHMKIT_ERR_NOT_FOUND, CALL(open_fd)(fd[0], 1024 * 64 - 64, NULL, &opened));
    STATUS(SHMKIT_ERR_INVALID, CALL(open_fd)(-1, 0, NULL, &opened));
    CHECK(opened == NULL);
    STATUS(SHMKIT_ERR_INVALID, CALL(unlink)(one));
    STATUS(SHMKIT_OK, CALL(close)(one));
    STATUS(SHMKIT_OK, CALL(close)(other));
}

static void test_placed(void)
{
    shmkit_segment *segment = full("placed", 5000), *reader = NULL, *plain = NULL;
    shmkit_segment_options reading = {.struct_size = sizeof reading, .flags = SHMKIT_SEGMENT_READONLY};
    LOCK *made = NULL, *opened = NULL, *none = NULL;
    const uint64_t wrong[] = {1, 8, 63, 96, 4992, 5000, 5056, UINT64_MAX, UINT64_MAX - 63};
    int32_t fd = -1;
    uint64_t offset = 7;
    void *data = NULL;
    for (size_t at = 0; at < sizeof wrong / sizeof *wrong; at++) {
        STATUS(SHMKIT_ERR_INVALID, CALL(create_at)(segment, wrong[at], NULL, &made));
        STATUS(SHMKIT_ERR_INVALID, CALL(open_at)(segment, wrong[at], NULL, &made));
    }
    STATUS(SHMKIT_ERR_NOT_FOUND, CALL(open_at)(segment, 128, NULL, &made));
    STATUS(SHMKIT_OK, shmkit_segment_open("placed", 0, &reading, &reader));
    STATUS(SHMKIT_ERR_PERMISSION, CALL(create_at)(reader, 128, NULL, &made));
    STATUS(SHMKIT_OK, shmkit_segment_create(NULL, 5000, NULL, &plain));
    STATUS(SHMKIT_ERR_WRONG_KIND, CALL(create_at)(plain, 128, NULL, &made));
    STATUS(SHMKIT_ERR_WRONG_KIND, CALL(open_at)(plain, 128, NULL, &made));
    CHECK(made == NULL);
    STATUS(SHMKIT_OK, CALL(create_at)(segment, 128, NULL, &made));
    STATUS(SHMKIT_OK, CALL(create_at)(segment, 128, &PLAIN, &opened));
    STATUS(SHMKIT_OK, CALL(close)(opened));
    opened = NULL;
    STATUS(SHMKIT_ERR_PERMISSION, CALL(create_at)(reader, 128, NULL, &opened));
    STATUS(SHMKIT_ERR_PERMISSION, CALL(open_at)(reader, 128, NULL, &opened));
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    for (int byte = 1; byte < 256; byte++) {
        memset((char *)data + 256, byte, 64);
        STATUS(SHMKIT_ERR_WRONG_KIND, CALL(create_at)(segment, 256, NULL, &opened));
        STATUS(SHMKIT_ERR_WRONG_KIND, CALL(open_at)(segment, 256, NULL, &opened));
        CHECK(((volatile uint8_t *)data)[256] == byte && ((volatile uint8_t *)data)[319] == byte);
    }
    STATUS(SHMKIT_OK, CALL(open_at)(segment, 128, NULL, &opened));
    STATUS(SHMKIT_ERR_INVALID, CALL(fd)(made, &fd, &offset));
    STATUS(SHMKIT_ERR_INVALID, CALL(unlink)(made));
    CHECK(fd == -1 && offset == 7);
    /* The locks keep the memory when the segment's handle goes. */
    STATUS(SHMKIT_OK, shmkit_segment_unlink(segment));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    STATUS(SHMKIT_ERR_CLOSED, CALL(open_at)(segment, 128, NULL, &none));
    take(made);
    CHECK(((volatile uint64_t *)data)[128 / 8] != 0 && told(opened).offset == 128);
    give(opened);
    STATUS(SHMKIT_OK, CALL(close)(made));
    STATUS(SHMKIT_OK, CALL(close)(opened));
    STATUS(SHMKIT_OK, shmkit_segment_close(reader));
    STATUS(SHMKIT_OK, shmkit_segment_close(plain));
}

/* Calls the function of this number with a handle; outputs are looked at afterwards. */
static const size_t FUNCTIONS = 7;

static shmkit_status call(size_t function, LOCK *handle)
{
    uint32_t recovered = 77;
    int32_t fd = 77;
    uint64_t offset = 77;
    shmkit_lock_info info = {.struct_size = sizeof info, .acquisitions = 77};
    shmkit_status status = SHMKIT_OK;
    switch (function) {
    case 0: status = CALL(acquire)(handle, SHMKIT_NOWAIT, 0, &recovered); break;
    case 1: status = CALL(release)(handle); break;
    case 2: status = CALL(mark_consistent)(handle); break;
    case 3: status = CALL(stat)(handle, &info); break;
    case 4: status = CALL(unlink)(handle); break;
    case 5: status = CALL(fd)(handle, &fd, &offset); break;
    case 6: status = CALL(close)(handle); break;
    }
    CHECK(status == SHMKIT_OK || (recovered == 77 && fd == 77 && offset == 77 && info.acquisitions == 77));
    return status;
}

static void *close_it(void *lock)
{
    STATUS(SHMKIT_OK, CALL(close)(lock));
    return NULL;
}

/* Made there and nowhere opened. */
static void test_exclusive(void)
{
    shmkit_segment *segment = full(NULL, 4096);
    shmkit_object_options options = PLAIN;
    LOCK *lock = NULL, *none = NULL;
    options.flags = SHMKIT_EXCLUSIVE;
    STATUS(SHMKIT_OK, CALL(create_at)(segment, 128, &options, &lock));
    STATUS(SHMKIT_ERR_EXISTS, CALL(create_at)(segment, 128, &options, &none));
    STATUS(SHMKIT_OK, CALL(close)(lock));
    STATUS(SHMKIT_ERR_EXISTS, CALL(create_at)(segment, 128, &options, &none));
    CHECK(none == NULL);
    STATUS(SHMKIT_OK, CALL(create_at)(segment, 128, NULL, &lock));
    STATUS(SHMKIT_OK, CALL(close)(lock));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

/* The segment that a lock stands in: the same one, the file of its name, the arena. */
static void test_segment_of(void)
{
    shmkit_segment *segment = full(NULL, 4096), *same = NULL;
    shmkit_segment_info info = {.struct_size = sizeof info};
    LOCK *lock = NULL;
    const char *name = NULL;
    void *data = NULL, *seen = NULL;
    STATUS(SHMKIT_OK, CALL(create_at)(segment, 64, NULL, &lock));
    STATUS(SHMKIT_OK, CALL(segment)(lock, &same));
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    STATUS(SHMKIT_OK, shmkit_segment_data(same, &seen));
    CHECK(data == seen);
    /* Each handle is closed once; the lock keeps what it stands in. */
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    STATUS(SHMKIT_OK, shmkit_segment_close(same));
    STATUS(SHMKIT_ERR_CLOSED, shmkit_segment_close(same));
    take_and_give(lock);
    STATUS(SHMKIT_OK, CALL(close)(lock));

    STATUS(SHMKIT_OK, CALL(create)("segment-of", NULL, &lock));
    STATUS(SHMKIT_OK, CALL(segment)(lock, &same));
    STATUS(SHMKIT_OK, shmkit_segment_name(same, &name));
    CHECK(strcmp(name, "segment-of") == 0);
    STATUS(SHMKIT_OK, shmkit_segment_stat(same, &info));
    CHECK(info.size == 64 && info.links == 1);
    STATUS(SHMKIT_OK, CALL(unlink)(lock));
    STATUS(SHMKIT_OK, CALL(close)(lock));
    STATUS(SHMKIT_OK, shmkit_segment_close(same));

    lock = unnamed();
    STATUS(SHMKIT_OK, CALL(segment)(lock, &same));
    STATUS(SHMKIT_OK, shmkit_segment_stat(same, &info));
    CHECK(info.links == 0 && (info.flags & SHMKIT_SEGMENT_SEALED));
    STATUS(SHMKIT_OK, shmkit_segment_close(same));
    STATUS(SHMKIT_OK, CALL(close)(lock));
}

static void test_bad_pointers(void)
{
    _Alignas(64) char block[256] = {0};
    void *odd = block + 1;
    LOCK *lock = unnamed(), *none = NULL;
    shmkit_segment *segment = full(NULL, 4096);
    shmkit_lock_info info = {.struct_size = 4};
    int32_t fd = 77;
    uint64_t offset = 77;
    pthread_t thread;
    for (size_t function = 0; function < FUNCTIONS; function++) {
        STATUS(function == FUNCTIONS - 1 ? SHMKIT_OK : SHMKIT_ERR_INVALID, call(function, NULL));
        STATUS(SHMKIT_ERR_INVALID, call(function, odd));
        STATUS(SHMKIT_ERR_WRONG_KIND, call(function, (LOCK *)block));
        STATUS(SHMKIT_ERR_WRONG_KIND, call(function, (LOCK *)segment));
    }
    STATUS(SHMKIT_ERR_WRONG_KIND, CALL(create_at)((shmkit_segment *)lock, 0, NULL, &none));
    STATUS(SHMKIT_ERR_INVALID, CALL(create_at)(NULL, 0, NULL, &none));
    STATUS(SHMKIT_ERR_INVALID, CALL(open_at)(NULL, 0, NULL, &none));
    STATUS(SHMKIT_ERR_INVALID, CALL(create)("a", NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, CALL(create)("a", NULL, odd));
    STATUS(SHMKIT_ERR_INVALID, CALL(create)("a", odd, &none));
    STATUS(SHMKIT_ERR_INVALID, CALL(open)("a", NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, CALL(open_or_create)("a", NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, CALL(open_fd)(0, 0, NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, CALL(create_at)(segment, 0, NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, CALL(open_at)(segment, 0, NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, CALL(stat)(lock, NULL));
    STATUS(SHMKIT_ERR_INVALID, CALL(stat)(lock, &info));
    STATUS(SHMKIT_ERR_INVALID, CALL(fd)(lock, NULL, &offset));
    STATUS(SHMKIT_ERR_INVALID, CALL(fd)(lock, &fd, NULL));
    STATUS(SHMKIT_ERR_INVALID, CALL(acquire)(lock, SHMKIT_NOWAIT, 0, odd));
    CHECK(fd == 77 && offset == 77 && none == NULL && check_entries() == 0);
    CHECK(told(lock).flags == 0 && told(lock).acquisitions == 0);
    CHECK(pthread_create(&thread, NULL, close_it, lock) == 0 && pthread_join(thread, NULL) == 0);
    for (size_t function = 0; function < FUNCTIONS; function++)
        STATUS(SHMKIT_ERR_CLOSED, call(function, lock));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    STATUS(SHMKIT_ERR_CLOSED, CALL(create_at)(segment, 0, NULL, &none));
    CHECK(none == NULL);
}

static inline void test_places(void)
{
    test_sizes();
    test_named();
    test_options();
    test_unnamed();
    test_placed();
    test_exclusive();
    test_segment_of();
    test_bad_pointers();
}

#endif
