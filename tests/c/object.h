/*
 * The table of all nouns: the functions of the life cycle, and those that test_object.c needs besides.
 *
 * Each noun has a row in nouns.h and four functions here:
 *
 *   mark        changes an object; the change is visible through every handle
 *   is_marked   returns whether a handle shows that change
 *   unmark      undoes the change, through any handle of the same process
 *   refuses     calls the functions that only this noun has with a bad handle; checks their status and outputs
 */
#ifndef OBJECT_H
#define OBJECT_H

#include "holder.h"

#include <pthread.h>
#include <sched.h>

/* The options of any noun. All types begin with the same fields. */
union options {
    shmkit_object_options common;
#define OBJECT(noun, options, info, ...) options noun;
#include "nouns.h"
#undef OBJECT
};

/* The info of any noun. All types begin with struct_size. */
union info {
    uint32_t struct_size;
#define OBJECT(noun, options, info, ...) info noun;
#include "nouns.h"
#undef OBJECT
};

struct noun {
    const char *name;
    uint64_t bytes, default_bytes;
    uint32_t flags;
    bool own_file;
    union options made, other[4];
    size_t others, options_size, info_size;

    shmkit_status (*size)(const void *options, uint64_t *out);
    shmkit_status (*create)(const char *name, const void *options, void **out);
    shmkit_status (*open)(const char *name, const void *options, void **out);
    shmkit_status (*open_or_create)(const char *name, const void *options, void **out);
    shmkit_status (*create_at)(const shmkit_segment *segment, uint64_t offset, const void *options, void **out);
    shmkit_status (*open_at)(const shmkit_segment *segment, uint64_t offset, const void *options, void **out);
    shmkit_status (*open_fd)(int32_t fd, uint64_t offset, const void *options, void **out);
    shmkit_status (*fd)(const void *object, int32_t *fd, uint64_t *offset);
    shmkit_status (*segment)(const void *object, shmkit_segment **out);
    shmkit_status (*stat)(const void *object, void *out);
    shmkit_status (*unlink)(void *object);
    shmkit_status (*close)(void *object);
    uint64_t (*offset)(const void *object);

    void (*mark)(void *object);
    bool (*is_marked)(const void *object);
    void (*unmark)(void *object);
    void (*refuses)(void *object, shmkit_status expected);
};

/* --- locks -------------------------------------------------------------------------------------------------------- */

#define LOCKS(noun)                                                                                                    \
    static void noun##_mark(void *lock)                                                                                \
    {                                                                                                                  \
        uint32_t owner_died = 77;                                                                                      \
        STATUS(SHMKIT_OK, shmkit_##noun##_acquire(lock, SHMKIT_FOREVER, 0, &owner_died));                              \
        CHECK(owner_died == 0);                                                                                        \
    }                                                                                                                  \
                                                                                                                       \
    static bool noun##_is_marked(const void *lock)                                                                     \
    {                                                                                                                  \
        shmkit_lock_info info = {.struct_size = sizeof info};                                                          \
        STATUS(SHMKIT_OK, shmkit_##noun##_stat(lock, &info));                                                          \
        if (info.owner_pid != 0 && info.owner_pid != (uint32_t)getpid())                                               \
            STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_##noun##_acquire((shmkit_##noun *)lock, SHMKIT_NOWAIT, 0, NULL));    \
        return info.flags == SHMKIT_LOCK_HELD;                                                                         \
    }                                                                                                                  \
                                                                                                                       \
    static void noun##_unmark(void *lock)                                                                              \
    {                                                                                                                  \
        STATUS(SHMKIT_OK, shmkit_##noun##_release(lock));                                                              \
    }                                                                                                                  \
                                                                                                                       \
    static void noun##_refuses_as_lock(void *lock, shmkit_status expected)                                             \
    {                                                                                                                  \
        uint32_t owner_died = 77;                                                                                      \
        STATUS(expected, shmkit_##noun##_acquire(lock, SHMKIT_NOWAIT, 0, &owner_died));                                \
        STATUS(expected, shmkit_##noun##_release(lock));                                                               \
        STATUS(expected, shmkit_##noun##_mark_consistent(lock));                                                       \
        CHECK(owner_died == 77);                                                                                       \
    }

LOCKS(lock)
LOCKS(rlock)

static void lock_refuses(void *lock, shmkit_status expected)
{
    lock_refuses_as_lock(lock, expected);
}

static void rlock_refuses(void *lock, shmkit_status expected)
{
    uint64_t depth = 77;
    rlock_refuses_as_lock(lock, expected);
    STATUS(expected, shmkit_rlock_depth(lock, &depth));
    CHECK(depth == 77);
}

static void rwlock_mark(void *lock)
{
    uint32_t owner_died = 77;
    STATUS(SHMKIT_OK, shmkit_rwlock_acquire_write(lock, SHMKIT_FOREVER, 0, &owner_died));
    CHECK(owner_died == 0);
}

static bool rwlock_is_marked(const void *lock)
{
    shmkit_rwlock_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_OK, shmkit_rwlock_stat(lock, &info));
    if (info.owner_pid != 0 && info.owner_pid != (uint32_t)getpid())
        STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_rwlock_acquire_read((shmkit_rwlock *)lock, SHMKIT_NOWAIT, 0, NULL));
    return info.flags == SHMKIT_RWLOCK_WRITING;
}

static void rwlock_unmark(void *lock)
{
    STATUS(SHMKIT_OK, shmkit_rwlock_release_write(lock));
}

static void rwlock_refuses(void *lock, shmkit_status expected)
{
    uint32_t owner_died = 77;
    STATUS(expected, shmkit_rwlock_acquire_read(lock, SHMKIT_NOWAIT, 0, &owner_died));
    STATUS(expected, shmkit_rwlock_release_read(lock));
    STATUS(expected, shmkit_rwlock_acquire_write(lock, SHMKIT_NOWAIT, 0, &owner_died));
    STATUS(expected, shmkit_rwlock_release_write(lock));
    STATUS(expected, shmkit_rwlock_upgrade(lock, SHMKIT_NOWAIT, 0));
    STATUS(expected, shmkit_rwlock_downgrade(lock));
    STATUS(expected, shmkit_rwlock_mark_consistent(lock));
    CHECK(owner_died == 77);
}

/* --- semaphores, events, once ------------------------------------------------------------------------------------- */

static void semaphore_mark(void *semaphore)
{
    STATUS(SHMKIT_OK, shmkit_semaphore_acquire(semaphore, 1, SHMKIT_FOREVER, 0));
}

static bool semaphore_is_marked(const void *semaphore)
{
    uint64_t value = 77;
    STATUS(SHMKIT_OK, shmkit_semaphore_value(semaphore, &value));
    return value == 0;
}

static void semaphore_unmark(void *semaphore)
{
    STATUS(SHMKIT_OK, shmkit_semaphore_release(semaphore, 1));
}

static void semaphore_refuses(void *semaphore, shmkit_status expected)
{
    uint64_t out = 77;
    STATUS(expected, shmkit_semaphore_acquire(semaphore, 1, SHMKIT_NOWAIT, 0));
    STATUS(expected, shmkit_semaphore_release(semaphore, 1));
    STATUS(expected, shmkit_semaphore_value(semaphore, &out));
    STATUS(expected, shmkit_semaphore_held(semaphore, &out));
    CHECK(out == 77);
}

static void event_mark(void *event)
{
    STATUS(SHMKIT_OK, shmkit_event_set(event));
}

static bool event_is_marked(const void *event)
{
    uint32_t set = 77;
    STATUS(SHMKIT_OK, shmkit_event_is_set(event, &set));
    return set == 1;
}

static void event_unmark(void *event)
{
    STATUS(SHMKIT_OK, shmkit_event_clear(event));
}

static void event_refuses(void *event, shmkit_status expected)
{
    uint32_t set = 77;
    STATUS(expected, shmkit_event_set(event));
    STATUS(expected, shmkit_event_clear(event));
    STATUS(expected, shmkit_event_is_set(event, &set));
    STATUS(expected, shmkit_event_wait(event, SHMKIT_NOWAIT, 0));
    CHECK(set == 77);
}

static void once_mark(void *once)
{
    uint32_t mine = 77, owner_died = 77;
    STATUS(SHMKIT_OK, shmkit_once_begin(once, SHMKIT_FOREVER, 0, &mine, &owner_died));
    CHECK(mine == 1 && owner_died == 0);
}

static bool once_is_marked(const void *once)
{
    shmkit_once_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_OK, shmkit_once_stat(once, &info));
    return info.flags == SHMKIT_ONCE_RUNNING;
}

static void once_unmark(void *once)
{
    STATUS(SHMKIT_OK, shmkit_once_abort(once));
}

static void once_refuses(void *once, shmkit_status expected)
{
    uint32_t mine = 77, owner_died = 77, done = 77;
    STATUS(expected, shmkit_once_begin(once, SHMKIT_NOWAIT, 0, &mine, &owner_died));
    STATUS(expected, shmkit_once_done(once));
    STATUS(expected, shmkit_once_abort(once));
    STATUS(expected, shmkit_once_is_done(once, &done));
    CHECK(mine == 77 && owner_died == 77 && done == 77);
}

/* --- conditions and barriers: marked while a thread waits in it --------------------------------------------------- */

static pthread_t waiter;

/* Starts the waiting thread, and returns once it waits. */
#define START_WAITER(noun, object)                                                                                     \
    do {                                                                                                               \
        shmkit_##noun##_info info = {.struct_size = sizeof info};                                                      \
        CHECK(pthread_create(&waiter, NULL, wait_at_##noun, object) == 0);                                             \
        while (shmkit_##noun##_stat(object, &info) == SHMKIT_OK && info.waiting == 0)                                  \
            sched_yield();                                                                                             \
    } while (0)

/* Returns the lock that all conditions of this test use. */
static shmkit_lock *monitor(void)
{
    static shmkit_lock *lock;
    if (lock == NULL)
        STATUS(SHMKIT_OK, shmkit_lock_create(NULL, NULL, &lock));
    return lock;
}

static void *wait_at_condition(void *condition)
{
    lock_mark(monitor());
    STATUS(SHMKIT_OK, shmkit_condition_wait(condition, monitor(), SHMKIT_FOREVER, 0, NULL));
    lock_unmark(monitor());
    return NULL;
}

static bool condition_is_marked(const void *condition)
{
    shmkit_condition_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_OK, shmkit_condition_stat(condition, &info));
    return info.waiting == 1;
}

static void condition_mark(void *condition)
{
    monitor();
    START_WAITER(condition, condition);
}

static void condition_unmark(void *condition)
{
    lock_mark(monitor());
    STATUS(SHMKIT_OK, shmkit_condition_notify(condition, monitor(), 1));
    lock_unmark(monitor());
    CHECK(pthread_join(waiter, NULL) == 0);
}

static void condition_refuses(void *condition, shmkit_status expected)
{
    uint32_t owner_died = 77;
    lock_mark(monitor());
    STATUS(expected, shmkit_condition_wait(condition, monitor(), SHMKIT_NOWAIT, 0, &owner_died));
    STATUS(expected, shmkit_condition_notify(condition, monitor(), 1));
    STATUS(expected, shmkit_condition_notify_all(condition, monitor()));
    lock_unmark(monitor());
    CHECK(owner_died == 77);
}

static void *wait_at_barrier(void *barrier)
{
    uint32_t place = 77;
    STATUS(SHMKIT_OK, shmkit_barrier_wait(barrier, SHMKIT_FOREVER, 0, &place));
    CHECK(place == 0);
    return NULL;
}

static bool barrier_is_marked(const void *barrier)
{
    uint32_t waiting = 77;
    STATUS(SHMKIT_OK, shmkit_barrier_waiting(barrier, &waiting));
    return waiting == 1;
}

static void barrier_mark(void *barrier)
{
    START_WAITER(barrier, barrier);
}

static void barrier_unmark(void *barrier)
{
    uint32_t place = 77;
    STATUS(SHMKIT_OK, shmkit_barrier_wait(barrier, SHMKIT_FOREVER, 0, &place));
    CHECK(place == 1 && pthread_join(waiter, NULL) == 0);
}

static void barrier_refuses(void *barrier, shmkit_status expected)
{
    uint32_t number = 77;
    STATUS(expected, shmkit_barrier_wait(barrier, SHMKIT_NOWAIT, 0, &number));
    STATUS(expected, shmkit_barrier_release(barrier));
    STATUS(expected, shmkit_barrier_reset(barrier));
    STATUS(expected, shmkit_barrier_abort(barrier));
    STATUS(expected, shmkit_barrier_parties(barrier, &number));
    STATUS(expected, shmkit_barrier_waiting(barrier, &number));
    STATUS(expected, shmkit_barrier_is_broken(barrier, &number));
    CHECK(number == 77);
}

/* --- queues ------------------------------------------------------------------------------------------------------- */

static void queue_mark(void *queue)
{
    STATUS(SHMKIT_OK, shmkit_queue_put(queue, "mark", 4, SHMKIT_FOREVER, 0));
}

static bool queue_is_marked(const void *queue)
{
    shmkit_queue_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_OK, shmkit_queue_stat(queue, &info));
    return info.messages == 1;
}

static void queue_unmark(void *queue)
{
    char message[8];
    uint64_t size = 77;
    STATUS(SHMKIT_OK, shmkit_queue_get(queue, message, sizeof message, SHMKIT_FOREVER, 0, &size));
    CHECK(size == 4 && memcmp(message, "mark", 4) == 0);
}

static void queue_refuses(void *queue, shmkit_status expected)
{
    const shmkit_queue_message message = {"a", 1};
    const void *data = NULL;
    void *room = NULL;
    char buffer[4] = "xyz";
    uint64_t out = 77, more = 77;
    uint32_t is = 77;
    int32_t fd = 77;
    STATUS(expected, shmkit_queue_put(queue, "a", 1, SHMKIT_NOWAIT, 0));
    STATUS(expected, shmkit_queue_get(queue, buffer, 4, SHMKIT_NOWAIT, 0, &out));
    STATUS(expected, shmkit_queue_peek(queue, buffer, 4, SHMKIT_NOWAIT, 0, &out));
    STATUS(expected, shmkit_queue_put_many(queue, &message, 1, SHMKIT_NOWAIT, 0, &out));
    STATUS(expected, shmkit_queue_get_many(queue, buffer, 4, &out, 1, SHMKIT_NOWAIT, 0, &more));
    STATUS(expected, shmkit_queue_reserve(queue, 1, SHMKIT_NOWAIT, 0, &room, &out));
    STATUS(expected, shmkit_queue_commit(queue, 64, 0));
    STATUS(expected, shmkit_queue_abort(queue, 64));
    STATUS(expected, shmkit_queue_lease(queue, SHMKIT_NOWAIT, 0, &data, &out, &more, &is));
    STATUS(expected, shmkit_queue_ack(queue, 64));
    STATUS(expected, shmkit_queue_nack(queue, 64));
    STATUS(expected, shmkit_queue_join(queue, SHMKIT_NOWAIT, 0));
    STATUS(expected, shmkit_queue_shutdown(queue));
    STATUS(expected, shmkit_queue_fileno(queue, SHMKIT_QUEUE_ROOM, &fd));
    STATUS(expected, shmkit_queue_is_full(queue, &is));
    CHECK(out == 77 && more == 77 && is == 77 && fd == 77 && data == NULL && room == NULL);
    CHECK(strcmp(buffer, "xyz") == 0);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

/* The functions of the life cycle, with the signatures of struct noun. */
#define FORWARD(noun, verb, parameters, ...)                                                                           \
    static shmkit_status noun##_##verb parameters                                                                      \
    {                                                                                                                  \
        return shmkit_##noun##_##verb(__VA_ARGS__);                                                                    \
    }

#define OBJECT(noun, options, info, ...)                                                                               \
    FORWARD(noun, size, (const void *given, uint64_t *out), given, out)                                                \
    FORWARD(noun, create, (const char *name, const void *given, void **out), name, given, (shmkit_##noun **)out)       \
    FORWARD(noun, open, (const char *name, const void *given, void **out), name, given, (shmkit_##noun **)out)         \
    FORWARD(noun, open_or_create, (const char *name, const void *given, void **out),                                   \
            name, given, (shmkit_##noun **)out)                                                                        \
    FORWARD(noun, create_at, (const shmkit_segment *segment, uint64_t offset, const void *given, void **out),          \
            segment, offset, given, (shmkit_##noun **)out)                                                             \
    FORWARD(noun, open_at, (const shmkit_segment *segment, uint64_t offset, const void *given, void **out),            \
            segment, offset, given, (shmkit_##noun **)out)                                                             \
    FORWARD(noun, open_fd, (int32_t fd, uint64_t offset, const void *given, void **out),                               \
            fd, offset, given, (shmkit_##noun **)out)                                                                  \
    FORWARD(noun, fd, (const void *object, int32_t *fd, uint64_t *offset), object, fd, offset)                         \
    FORWARD(noun, segment, (const void *object, shmkit_segment **out), object, out)                                    \
    FORWARD(noun, stat, (const void *object, void *out), object, out)                                                  \
    FORWARD(noun, unlink, (void *object), object)                                                                      \
    FORWARD(noun, close, (void *object), object)                                                                       \
    static uint64_t noun##_offset(const void *object)                                                                  \
    {                                                                                                                  \
        info out = {.struct_size = sizeof out};                                                                        \
        STATUS(SHMKIT_OK, shmkit_##noun##_stat(object, &out));                                                         \
        CHECK(out.struct_size == sizeof out);                                                                          \
        return out.offset;                                                                                             \
    }
#include "nouns.h"
#undef OBJECT

static const struct noun nouns[] = {
#define OBJECT(noun, options, info, ...)                                                                               \
    {.name = #noun, .options_size = sizeof(options), .info_size = sizeof(info),                                        \
     .size = noun##_size, .create = noun##_create, .open = noun##_open, .open_or_create = noun##_open_or_create,     \
     .create_at = noun##_create_at, .open_at = noun##_open_at, .open_fd = noun##_open_fd, .fd = noun##_fd,             \
     .segment = noun##_segment, .stat = noun##_stat, .unlink = noun##_unlink, .close = noun##_close,                   \
     .offset = noun##_offset, .mark = noun##_mark, .is_marked = noun##_is_marked, .unmark = noun##_unmark,             \
     .refuses = noun##_refuses, __VA_ARGS__},
#include "nouns.h"
#undef OBJECT
};

enum { NOUNS = sizeof nouns / sizeof *nouns };

#endif
