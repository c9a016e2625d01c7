/* Queues, as C has them: what is put and got, in place and at once, who waits, who dies, and bad arguments. */
#include "check.h"
#include "holder.h"

#include <poll.h>
#include <pthread.h>

typedef shmkit_queue QUEUE;

static const shmkit_queue_options PLAIN = {.struct_size = sizeof(shmkit_queue_options)};

static shmkit_queue_options with(uint64_t capacity, uint64_t maxsize, uint32_t flags)
{
    shmkit_queue_options options = PLAIN;
    options.capacity = capacity;
    options.maxsize = maxsize;
    options.flags = flags;
    return options;
}

static QUEUE *unnamed(uint64_t capacity, uint64_t maxsize, uint32_t flags)
{
    shmkit_queue_options options = with(capacity, maxsize, flags);
    QUEUE *queue = NULL;
    STATUS(SHMKIT_OK, shmkit_queue_create(NULL, &options, &queue));
    return queue;
}

static shmkit_queue_info told(const QUEUE *queue)
{
    shmkit_queue_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_OK, shmkit_queue_stat(queue, &info));
    CHECK(info.struct_size == sizeof info && info.unused == 0);
    return info;
}

static shmkit_status attempt(QUEUE *queue, const char *text)
{
    return shmkit_queue_put(queue, text, strlen(text), SHMKIT_NOWAIT, 0);
}

static void put(QUEUE *queue, const char *text)
{
    STATUS(SHMKIT_OK, attempt(queue, text));
}

/* Gets a message that must come, and must be this one. */
static void get(QUEUE *queue, const char *text)
{
    char buffer[64];
    uint64_t size = 7;
    STATUS(SHMKIT_OK, shmkit_queue_get(queue, buffer, sizeof buffer, SHMKIT_FOREVER, 0, &size));
    CHECK(size == strlen(text) && memcmp(buffer, text, size) == 0);
}

/* What a get says for which there is nothing. */
static shmkit_status look(QUEUE *queue, int64_t timeout)
{
    char byte = 'x';
    uint64_t size = 7;
    shmkit_status status = shmkit_queue_get(queue, &byte, 1, timeout, 0, &size);
    CHECK(byte == 'x' && size == 7);
    return status;
}

/* Leases a message that must come, and must be this one; returns its token. */
static uint64_t lease(QUEUE *queue, const char *text, uint32_t attempts)
{
    const void *data = NULL;
    uint64_t size = 7, token = 7;
    uint32_t times = 7;
    STATUS(SHMKIT_OK, shmkit_queue_lease(queue, SHMKIT_FOREVER, 0, &data, &size, &token, &times));
    CHECK(size == strlen(text) && memcmp(data, text, size) == 0 && times == attempts);
    CHECK((uintptr_t)data % 32 == 0);
    return token;
}

static uint64_t reserve(QUEUE *queue, uint64_t size, char **data)
{
    void *place = NULL;
    uint64_t token = 7;
    STATUS(SHMKIT_OK, shmkit_queue_reserve(queue, size, SHMKIT_FOREVER, 0, &place, &token));
    CHECK(place != NULL && (uintptr_t)place % 32 == 0);
    *data = (char *)place;
    return token;
}

static void done(QUEUE *queue)
{
    STATUS(SHMKIT_OK, shmkit_queue_close(queue));
}

static void test_in_and_out(void)
{
    QUEUE *queue = NULL;
    char buffer[8];
    uint64_t size = 7;
    uint32_t is = 7;
    STATUS(SHMKIT_OK, shmkit_queue_create(NULL, NULL, &queue));
    STATUS(SHMKIT_ERR_EMPTY, look(queue, SHMKIT_NOWAIT));
    STATUS(SHMKIT_ERR_TIMEOUT, look(queue, 2000000));
    put(queue, "one");
    put(queue, "");
    STATUS(SHMKIT_OK, shmkit_queue_put(queue, NULL, 0, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE));
    put(queue, "the last of them");
    CHECK(told(queue).messages == 4 && told(queue).bytes == 19);
    /* The beginning, and how long the whole is. */
    STATUS(SHMKIT_OK, shmkit_queue_peek(queue, buffer, 2, SHMKIT_NOWAIT, 0, &size));
    CHECK(size == 3 && memcmp(buffer, "on", 2) == 0);
    STATUS(SHMKIT_OK, shmkit_queue_peek(queue, NULL, 0, SHMKIT_NOWAIT, 0, &size));
    CHECK(size == 3 && told(queue).messages == 4);
    get(queue, "one");
    get(queue, "");
    get(queue, "");
    STATUS(SHMKIT_ERR_TOO_LARGE, shmkit_queue_get(queue, buffer, sizeof buffer, SHMKIT_NOWAIT, 0, &size));
    CHECK(size == 3);
    get(queue, "the last of them");
    STATUS(SHMKIT_ERR_EMPTY, shmkit_queue_peek(queue, NULL, 0, SHMKIT_NOWAIT, 0, &size));
    STATUS(SHMKIT_OK, shmkit_queue_is_full(queue, &is));
    CHECK(is == 0 && size == 3 && told(queue).puts == 4 && told(queue).gets == 4);
    CHECK(told(queue).capacity == UINT64_C(64) << 30 && told(queue).largest == UINT64_C(32) << 30);
    CHECK(told(queue).maxsize == 0 && told(queue).max_bytes == 0 && told(queue).flags == 0);
    done(queue);
}

static void test_large(void)
{
    enum { LARGE = 3 << 20 };
    QUEUE *queue = unnamed(0, 0, 0);
    unsigned char *message = malloc(LARGE), *same = malloc(LARGE);
    uint64_t size = 7;
    if (!CHECK(message && same))
        return;
    for (size_t at = 0; at < LARGE; at++)
        message[at] = (unsigned char)(at * 7);
    for (int times = 0; times < 10; times++)
        STATUS(SHMKIT_OK, shmkit_queue_put(queue, message, LARGE, SHMKIT_NOWAIT, 0));
    CHECK(told(queue).memory >= 10 * LARGE);
    for (int times = 0; times < 10; times++) {
        memset(same, 0, LARGE);
        STATUS(SHMKIT_OK, shmkit_queue_get(queue, same, LARGE, SHMKIT_NOWAIT, 0, &size));
        CHECK(size == LARGE && memcmp(message, same, LARGE) == 0);
    }
    STATUS(SHMKIT_ERR_EMPTY, look(queue, SHMKIT_NOWAIT));
    done(queue);
    free(message);
    free(same);
}

static void test_bounds(void)
{
    shmkit_queue_options options = with(1024, 3, 0);
    QUEUE *queue = NULL;
    char buffer[600] = {0};
    void *data = NULL;
    uint64_t token = 7;
    uint32_t is = 7;
    options.max_bytes = 100;
    STATUS(SHMKIT_OK, shmkit_queue_create(NULL, &options, &queue));
    CHECK(told(queue).largest == 100 && told(queue).maxsize == 3 && told(queue).max_bytes == 100);
    STATUS(SHMKIT_ERR_TOO_LARGE, shmkit_queue_put(queue, buffer, 101, SHMKIT_FOREVER, 0));
    STATUS(SHMKIT_ERR_TOO_LARGE, shmkit_queue_reserve(queue, 101, SHMKIT_FOREVER, 0, &data, &token));
    STATUS(SHMKIT_OK, shmkit_queue_put(queue, buffer, 80, SHMKIT_NOWAIT, 0));
    STATUS(SHMKIT_ERR_FULL, shmkit_queue_put(queue, buffer, 21, SHMKIT_NOWAIT, 0));
    put(queue, "a");
    put(queue, "b");
    STATUS(SHMKIT_ERR_FULL, attempt(queue, ""));
    STATUS(SHMKIT_ERR_FULL, shmkit_queue_reserve(queue, 0, SHMKIT_NOWAIT, 0, &data, &token));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_queue_put(queue, NULL, 0, 2000000, 0));
    STATUS(SHMKIT_OK, shmkit_queue_is_full(queue, &is));
    CHECK(is == 1 && data == NULL && token == 7);
    done(queue);

    queue = unnamed(1024, 0, SHMKIT_QUEUE_FAIL);
    CHECK(told(queue).largest == 512);
    STATUS(SHMKIT_OK, shmkit_queue_put(queue, buffer, 512, SHMKIT_FOREVER, 0));
    STATUS(SHMKIT_ERR_TOO_LARGE, shmkit_queue_put(queue, buffer, 513, SHMKIT_FOREVER, 0));
    STATUS(SHMKIT_OK, shmkit_queue_put(queue, buffer, 400, SHMKIT_FOREVER, 0));
    /* However long it would wait. */
    STATUS(SHMKIT_ERR_FULL, shmkit_queue_put(queue, buffer, 400, SHMKIT_FOREVER, 0));
    CHECK(told(queue).flags == SHMKIT_QUEUE_FAIL && told(queue).messages == 2);
    done(queue);

    queue = unnamed(0, 2, SHMKIT_QUEUE_OVERWRITE);
    put(queue, "a");
    put(queue, "b");
    put(queue, "c");
    CHECK(told(queue).flags == SHMKIT_QUEUE_OVERWRITE && told(queue).overwritten == 1);
    get(queue, "b");
    get(queue, "c");
    done(queue);
}

static void test_several(void)
{
    QUEUE *queue = unnamed(4096, 3, 0);
    const shmkit_queue_message messages[] = {{"one", 3}, {NULL, 0}, {"three", 5}, {"four", 4}};
    char buffer[64];
    uint64_t sizes[4] = {7, 7, 7, 7}, count = 7;
    STATUS(SHMKIT_OK, shmkit_queue_put_many(queue, messages, 4, SHMKIT_NOWAIT, 0, &count));
    CHECK(count == 3);
    count = 7;
    STATUS(SHMKIT_ERR_FULL, shmkit_queue_put_many(queue, messages, 4, SHMKIT_NOWAIT, 0, &count));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_queue_put_many(queue, messages, 3, 2000000, SHMKIT_QUEUE_ALL, &count));
    STATUS(SHMKIT_ERR_TOO_LARGE, shmkit_queue_put_many(queue, messages, 4, SHMKIT_FOREVER, SHMKIT_QUEUE_ALL, &count));
    CHECK(count == 7);
    STATUS(SHMKIT_OK, shmkit_queue_get_many(queue, buffer, 7, sizes, 4, SHMKIT_NOWAIT, 0, &count));
    CHECK(count == 2 && sizes[0] == 3 && sizes[1] == 0 && sizes[2] == 7 && memcmp(buffer, "one", 3) == 0);
    count = 7;
    STATUS(SHMKIT_ERR_TOO_LARGE, shmkit_queue_get_many(queue, buffer, 4, sizes, 4, SHMKIT_NOWAIT, 0, &count));
    STATUS(SHMKIT_ERR_FULL, shmkit_queue_put_many(queue, messages, 3, SHMKIT_NOWAIT, SHMKIT_QUEUE_ALL, &count));
    CHECK(count == 7 && sizes[0] == 3);
    STATUS(SHMKIT_OK, shmkit_queue_put_many(queue, messages, 2, SHMKIT_NOWAIT, SHMKIT_QUEUE_ALL, &count));
    CHECK(count == 2);
    STATUS(SHMKIT_OK, shmkit_queue_get_many(queue, buffer, sizeof buffer, sizes, 4, SHMKIT_NOWAIT, 0, &count));
    CHECK(count == 3 && sizes[0] == 5 && memcmp(buffer, "threeone", 8) == 0);
    count = 7;
    STATUS(SHMKIT_ERR_EMPTY, shmkit_queue_get_many(queue, buffer, sizeof buffer, sizes, 4, SHMKIT_NOWAIT, 0, &count));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_queue_get_many(queue, buffer, sizeof buffer, sizes, 4, 1, 0, &count));
    CHECK(count == 7);
    /* Nothing is asked for. */
    STATUS(SHMKIT_OK, shmkit_queue_put_many(queue, NULL, 0, SHMKIT_FOREVER, 0, &count));
    CHECK(count == 0);
    count = 7;
    STATUS(SHMKIT_OK, shmkit_queue_get_many(queue, NULL, 0, NULL, 0, SHMKIT_FOREVER, 0, &count));
    CHECK(count == 0);
    done(queue);
}

static void test_reserve(void)
{
    QUEUE *queue = unnamed(4096, 0, 0);
    char *first = NULL, *second = NULL, *third = NULL;
    uint64_t one = reserve(queue, 100, &first), two = reserve(queue, 5, &second);
    put(queue, "behind");
    uint64_t three = reserve(queue, 0, &third);
    memcpy(first, "first", 5);
    memcpy(second, "nobody", 5);
    STATUS(SHMKIT_ERR_EMPTY, look(queue, SHMKIT_NOWAIT));
    shmkit_queue_info info = told(queue);
    CHECK(info.messages == 1 && info.reserved == 3 && info.held_up_by_pid == (uint32_t)getpid());
    CHECK(info.held_up_by_ticket != 0 && info.held_up_by_namespace != 0);
    STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_queue_join(queue, SHMKIT_NOWAIT, 0));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_queue_join(queue, 2000000, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_commit(queue, one, 101));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_ack(queue, one));
    STATUS(SHMKIT_OK, shmkit_queue_commit(queue, one, 5));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_commit(queue, one, 5));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_abort(queue, one));
    STATUS(SHMKIT_OK, shmkit_queue_abort(queue, two));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_abort(queue, two));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_commit(queue, two, 0));
    STATUS(SHMKIT_OK, shmkit_queue_commit(queue, three, 0));
    get(queue, "first");
    get(queue, "behind");
    get(queue, "");
    STATUS(SHMKIT_OK, shmkit_queue_join(queue, SHMKIT_NOWAIT, 0));
    CHECK(told(queue).skipped == 1 && told(queue).held_up_by_ticket == 0);
    done(queue);
}

static void touch_what_is_another_process_own(void *argument)
{
    uint64_t *tokens = (uint64_t *)((void **)argument)[1];
    QUEUE *queue = (QUEUE *)((void **)argument)[0];
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_ack(queue, tokens[0]));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_nack(queue, tokens[0]));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_commit(queue, tokens[1], 0));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_abort(queue, tokens[1]));
}

static void test_lease(void)
{
    QUEUE *queue = unnamed(0, 0, 0);
    const void *data = NULL;
    char *place = NULL;
    uint64_t size = 7, token = 7, none[] = {0, 1, 32, UINT64_MAX};
    put(queue, "a");
    put(queue, "b");
    uint64_t first = lease(queue, "a", 1);
    uint64_t tokens[] = {first, reserve(queue, 8, &place)};
    void *argument[] = {queue, tokens};
    CHECK(check_fork(touch_what_is_another_process_own, argument) == 0);
    STATUS(SHMKIT_OK, shmkit_queue_abort(queue, tokens[1]));
    CHECK(told(queue).leased == 1 && told(queue).messages == 1);
    get(queue, "b");
    STATUS(SHMKIT_ERR_EMPTY, look(queue, SHMKIT_NOWAIT));
    STATUS(SHMKIT_OK, shmkit_queue_nack(queue, first));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_nack(queue, first));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_ack(queue, first));
    put(queue, "c");
    /* What was given back comes first. */
    uint64_t again = lease(queue, "a", 2);
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_commit(queue, again, 0));
    STATUS(SHMKIT_OK, shmkit_queue_ack(queue, again));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_ack(queue, again));
    get(queue, "c");
    for (size_t at = 0; at < sizeof none / sizeof *none; at++) {
        STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_ack(queue, none[at]));
        STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_nack(queue, none[at]));
        STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_commit(queue, none[at], 0));
        STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_abort(queue, none[at]));
    }
    STATUS(SHMKIT_ERR_EMPTY, shmkit_queue_lease(queue, SHMKIT_NOWAIT, 0, &data, &size, &token, NULL));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_queue_lease(queue, 1, 0, &data, &size, &token, NULL));
    CHECK(data == NULL && size == 7 && token == 7 && told(queue).redelivered == 1);
    /* How often is not wanted. */
    put(queue, "d");
    STATUS(SHMKIT_OK, shmkit_queue_lease(queue, SHMKIT_NOWAIT, 0, &data, &size, &token, NULL));
    STATUS(SHMKIT_OK, shmkit_queue_ack(queue, token));
    STATUS(SHMKIT_OK, shmkit_queue_join(queue, SHMKIT_FOREVER, 0));
    done(queue);
}

static void lease_a(void *queue)
{
    lease((QUEUE *)queue, "a", 1);
}

static void reserve_some(void *queue)
{
    char *data = NULL;
    reserve((QUEUE *)queue, 10, &data);
}

static void get_a(void *queue)
{
    get((QUEUE *)queue, "a");
}

static void get_b(void *queue)
{
    get((QUEUE *)queue, "b");
}

static void put_b(void *queue)
{
    STATUS(SHMKIT_OK, shmkit_queue_put((QUEUE *)queue, "b", 1, SHMKIT_FOREVER, 0));
}

static void wait_for_the_end(void *queue)
{
    STATUS(SHMKIT_OK, shmkit_queue_join((QUEUE *)queue, SHMKIT_FOREVER, 0));
}

static void await_sleepers(const QUEUE *queue, uint64_t gets, uint64_t puts)
{
    while (told(queue).get_waits < gets || told(queue).put_waits < puts)
        usleep(200);
}

static void test_waits(void)
{
    QUEUE *queue = unnamed(0, 1, 0);
    struct holder consumer = holder_run(get_a, queue);
    await_sleepers(queue, 1, 0);
    put(queue, "a");
    CHECK(holder_end(consumer) == 0);
    put(queue, "a");
    struct holder producer = holder_run(put_b, queue);
    await_sleepers(queue, 1, 1);
    get(queue, "a");
    CHECK(holder_end(producer) == 0);
    struct holder joiner = holder_run(wait_for_the_end, queue);
    await_sleepers(queue, 1, 2);
    get(queue, "b");
    CHECK(holder_end(joiner) == 0);
    done(queue);
}

static void test_death(void)
{
    QUEUE *queue = unnamed(0, 2, 0);
    put(queue, "a");
    struct holder lessee = holder_start(lease_a, nothing, queue);
    STATUS(SHMKIT_ERR_EMPTY, look(queue, SHMKIT_NOWAIT));
    holder_kill(lessee);
    uint64_t token = lease(queue, "a", 2);
    STATUS(SHMKIT_OK, shmkit_queue_ack(queue, token));
    CHECK(told(queue).redelivered == 1);
    /* Who ends by itself is as dead, and somebody may be asleep when it happens. */
    put(queue, "a");
    lessee = holder_start(lease_a, nothing, queue);
    uint64_t slept = told(queue).get_waits;
    struct holder consumer = holder_run(get_a, queue);
    await_sleepers(queue, slept + 1, 0);
    holder_leave(lessee);
    CHECK(holder_end(consumer) == 0);
    /* What was reserved is skipped, and its room is had by others. */
    struct holder reserver = holder_start(reserve_some, nothing, queue);
    put(queue, "b");
    CHECK(told(queue).held_up_by_pid == (uint32_t)reserver.pid);
    STATUS(SHMKIT_ERR_EMPTY, look(queue, SHMKIT_NOWAIT));
    STATUS(SHMKIT_ERR_FULL, attempt(queue, "c"));
    slept = told(queue).get_waits;
    consumer = holder_run(get_b, queue);
    struct holder producer = holder_run(put_b, queue);
    await_sleepers(queue, slept + 1, 1);
    holder_kill(reserver);
    CHECK(holder_end(consumer) == 0 && holder_end(producer) == 0);
    get(queue, "b");
    CHECK(told(queue).skipped == 1);
    STATUS(SHMKIT_OK, shmkit_queue_join(queue, SHMKIT_NOWAIT, 0));
    done(queue);
}

static void ends_at_the_third_call(void *queue)
{
    int calls = 0;
    char buffer[8];
    uint64_t out = 7;
    const void *data = NULL;
    const uint32_t flags = SHMKIT_INTERRUPTIBLE;
    STATUS(SHMKIT_OK, shmkit_set_interrupt(third_time, &calls));
    STATUS(SHMKIT_ERR_INTERRUPTED, shmkit_queue_get((QUEUE *)queue, buffer, 8, SHMKIT_FOREVER, flags, &out));
    CHECK(calls == 3);
    calls = 0;
    STATUS(SHMKIT_ERR_INTERRUPTED, shmkit_queue_lease((QUEUE *)queue, SHMKIT_FOREVER, flags, &data, &out, &out, NULL));
    CHECK(calls == 3 && out == 7 && data == NULL);
    calls = 0;
    STATUS(SHMKIT_ERR_INTERRUPTED, shmkit_queue_put((QUEUE *)queue, "a", 1, SHMKIT_FOREVER, flags));
    CHECK(calls == 3);
    calls = 0;
    STATUS(SHMKIT_ERR_INTERRUPTED, shmkit_queue_join((QUEUE *)queue, SHMKIT_FOREVER, flags));
    CHECK(calls == 3);
}

static void test_interrupts(void)
{
    /* Held up, full and not finished, all at once. */
    QUEUE *queue = unnamed(0, 1, 0);
    char *data = NULL;
    uint64_t token = reserve(queue, 1, &data);
    CHECK(check_fork(ends_at_the_third_call, queue) == 0);
    STATUS(SHMKIT_OK, shmkit_queue_abort(queue, token));
    done(queue);
}

static void told_of_the_end(void *queue)
{
    STATUS(SHMKIT_ERR_SHUT_DOWN, look((QUEUE *)queue, SHMKIT_FOREVER));
}

static void test_shutdown(void)
{
    QUEUE *queue = unnamed(0, 0, 0);
    char *data = NULL;
    uint64_t token = 7, put_out = 7;
    void *place = NULL;
    const shmkit_queue_message message = {"late", 4};
    struct holder consumer = holder_run(told_of_the_end, queue);
    await_sleepers(queue, 1, 0);
    STATUS(SHMKIT_OK, shmkit_queue_shutdown(queue));
    CHECK(holder_end(consumer) == 0);
    done(queue);

    queue = unnamed(0, 0, 0);
    put(queue, "left");
    uint64_t reserved = reserve(queue, 4, &data);
    STATUS(SHMKIT_OK, shmkit_queue_shutdown(queue));
    STATUS(SHMKIT_OK, shmkit_queue_shutdown(queue));
    CHECK(told(queue).flags == SHMKIT_QUEUE_SHUTDOWN);
    STATUS(SHMKIT_ERR_SHUT_DOWN, attempt(queue, "late"));
    STATUS(SHMKIT_ERR_SHUT_DOWN, shmkit_queue_put_many(queue, &message, 1, SHMKIT_NOWAIT, 0, &put_out));
    STATUS(SHMKIT_ERR_SHUT_DOWN, shmkit_queue_reserve(queue, 1, SHMKIT_NOWAIT, 0, &place, &token));
    CHECK(put_out == 7 && token == 7 && place == NULL);
    token = lease(queue, "left", 1);
    memcpy(data, "last", 4);
    STATUS(SHMKIT_OK, shmkit_queue_commit(queue, reserved, 4));
    STATUS(SHMKIT_OK, shmkit_queue_nack(queue, token));
    get(queue, "left");
    get(queue, "last");
    STATUS(SHMKIT_ERR_SHUT_DOWN, look(queue, SHMKIT_FOREVER));
    STATUS(SHMKIT_ERR_SHUT_DOWN, look(queue, SHMKIT_NOWAIT));
    STATUS(SHMKIT_OK, shmkit_queue_join(queue, SHMKIT_FOREVER, 0));
    done(queue);
}

static bool readable(int32_t fd, int timeout)
{
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    return poll(&polled, 1, timeout) == 1;
}

static void test_fileno(void)
{
    QUEUE *queue = unnamed(0, 1, 0);
    int32_t messages = -7, room = -7, same = -7;
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_fileno(queue, 2, &messages));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_fileno(queue, SHMKIT_QUEUE_ROOM, NULL));
    CHECK(messages == -7);
    struct holder other = holder_start(nothing, put_b, queue);
    STATUS(SHMKIT_OK, shmkit_queue_fileno(queue, SHMKIT_QUEUE_MESSAGES, &messages));
    STATUS(SHMKIT_OK, shmkit_queue_fileno(queue, SHMKIT_QUEUE_ROOM, &room));
    STATUS(SHMKIT_OK, shmkit_queue_fileno(queue, SHMKIT_QUEUE_ROOM, &same));
    CHECK(messages != room && same == room && !readable(messages, 0) && readable(room, -1));
    holder_leave(other);
    CHECK(readable(messages, -1));
    while (readable(room, 0))
        STATUS(SHMKIT_ERR_FULL, attempt(queue, "full"));
    get(queue, "b");
    CHECK(readable(room, -1));
    while (readable(messages, 0))
        STATUS(SHMKIT_ERR_EMPTY, look(queue, SHMKIT_NOWAIT));
    done(queue);
}

static void no_descriptor(void *queue)
{
    struct rlimit none = {0, 0};
    int32_t fd = -7;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    STATUS(SHMKIT_ERR_UNSUPPORTED, shmkit_queue_fileno((QUEUE *)queue, SHMKIT_QUEUE_MESSAGES, &fd));
    CHECK(fd == -7);
}

static void no_memory(void *unused)
{
    struct rlimit file = {256 << 10, 256 << 10}, space = {UINT64_C(4) << 30, UINT64_C(4) << 30};
    enum { LARGE = 1 << 20 };
    static char message[LARGE];
    QUEUE *queue = unnamed(0, 0, 0), *none = NULL;
    (void)unused;
    CHECK(setrlimit(RLIMIT_FSIZE, &file) == 0);
    put(queue, "a");
    STATUS(SHMKIT_ERR_NO_SPACE, shmkit_queue_put(queue, message, LARGE, SHMKIT_FOREVER, 0));
    put(queue, "b");
    get(queue, "a");
    get(queue, "b");
    done(queue);
    CHECK(setrlimit(RLIMIT_AS, &space) == 0);
    STATUS(SHMKIT_ERR_NO_MEMORY, shmkit_queue_create(NULL, NULL, &none));
    CHECK(none == NULL);
    done(unnamed(1 << 20, 0, 0));
}

static void put_for_ever(void *queue)
{
    static char message[60000];
    while (shmkit_queue_put((QUEUE *)queue, message, sizeof message, SHMKIT_FOREVER, 0) == SHMKIT_OK) {
    }
}

/* Who is stopped inside a call lives: who may not wait is told so, who waits for a time when that is over. */
static void test_stopped(void)
{
    /* Overwriting, so that it goes on for ever in little memory. */
    QUEUE *queue = unnamed(256 << 10, 1, SHMKIT_QUEUE_OVERWRITE);
    shmkit_status status = SHMKIT_OK;
    struct holder producer = holder_run(put_for_ever, queue);
    while (status != SHMKIT_ERR_WOULD_BLOCK) {
        kill(producer.pid, SIGSTOP);
        CHECK(waitpid(producer.pid, NULL, WUNTRACED) == producer.pid);
        uint32_t is = 7;
        status = shmkit_queue_is_full(queue, &is);
        CHECK(status == SHMKIT_OK || status == SHMKIT_ERR_WOULD_BLOCK);
        if (status == SHMKIT_OK) {
            kill(producer.pid, SIGCONT);
            usleep(200);
        }
    }
    STATUS(SHMKIT_ERR_WOULD_BLOCK, attempt(queue, "a"));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_queue_put(queue, "a", 1, 1, 0));
    kill(producer.pid, SIGCONT);
    holder_kill(producer);
    STATUS(SHMKIT_OK, shmkit_queue_put(queue, "a", 1, SHMKIT_FOREVER, 0));
    get(queue, "a");
    STATUS(SHMKIT_ERR_EMPTY, look(queue, SHMKIT_NOWAIT));
    done(queue);
}

/* An opener takes a queue as it is. */
static void test_opened_as_it_was_made(void)
{
    shmkit_queue_options options = with(8192, 5, 0), other = with(0, 6, SHMKIT_QUEUE_OVERWRITE);
    QUEUE *queue = NULL, *same = NULL;
    STATUS(SHMKIT_OK, shmkit_queue_create("queue", &options, &queue));
    STATUS(SHMKIT_OK, shmkit_queue_open("queue", &other, &same));
    CHECK(told(same).flags == 0 && told(same).capacity == 8192 && told(same).maxsize == 5);
    STATUS(SHMKIT_OK, shmkit_queue_unlink(same));
    done(same);
    done(queue);
}

static void test_placed(void)
{
    shmkit_queue_options options = with(2048, 0, 0);
    shmkit_segment *segment = managed_segment(NULL, 8192);
    QUEUE *queue = NULL, *same = NULL, *none = NULL;
    uint64_t size = 7;
    void *data = NULL;
    STATUS(SHMKIT_OK, shmkit_queue_size(&options, &size));
    CHECK(size == 2048 + 704);
    /* A queue with the default capacity does not fit. */
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_create_at(segment, 64, NULL, &none));
    CHECK(none == NULL);
    STATUS(SHMKIT_OK, shmkit_queue_create_at(segment, 64, &options, &queue));
    STATUS(SHMKIT_OK, shmkit_queue_open_at(segment, 64, NULL, &same));
    CHECK(told(same).maxsize == 0 && told(same).offset == 64);
    /* The queue neither grows nor writes beyond its place. */
    while (attempt(queue, "a message that fills it") == SHMKIT_OK) {
    }
    STATUS(SHMKIT_ERR_FULL, attempt(queue, "a message that fills it"));
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    for (size_t at = 64 + size; at < 8192; at++)
        if (!CHECK(((volatile char *)data)[at] == 0))
            break;
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    get(same, "a message that fills it");
    done(same);
    done(queue);
}

static void participate(void *name)
{
    QUEUE *queue = NULL;
    STATUS(SHMKIT_OK, shmkit_queue_open((const char *)name, NULL, &queue));
    put(queue, "a");
}

static void create_one(void *name)
{
    shmkit_queue_options options = PLAIN;
    QUEUE *queue = NULL;
    options.participants = 1;
    STATUS(SHMKIT_OK, shmkit_queue_create((const char *)name, &options, &queue));
}

static void test_participants(void)
{
    char name[] = "one";
    QUEUE *queue = NULL;
    CHECK(check_fork(create_one, name) == 0);
    struct holder only = holder_start(participate, nothing, name);
    STATUS(SHMKIT_OK, shmkit_queue_open(name, NULL, &queue));
    STATUS(SHMKIT_ERR_TOO_MANY_PROCESSES, look(queue, SHMKIT_NOWAIT));
    STATUS(SHMKIT_ERR_TOO_MANY_PROCESSES, attempt(queue, "b"));
    holder_kill(only);
    get(queue, "a");
    STATUS(SHMKIT_OK, shmkit_queue_unlink(queue));
    done(queue);
}

static void lease_and_close(void *name)
{
    QUEUE *queue = NULL;
    STATUS(SHMKIT_OK, shmkit_queue_open((const char *)name, NULL, &queue));
    lease(queue, "a", 1);
    done(queue);
}

static void test_closed_while_held(void)
{
    char name[] = "closed";
    QUEUE *queue = NULL;
    STATUS(SHMKIT_OK, shmkit_queue_create(name, NULL, &queue));
    put(queue, "a");
    done(queue);
    struct holder closer = holder_start(lease_and_close, nothing, name);
    STATUS(SHMKIT_OK, shmkit_queue_open(name, NULL, &queue));
    get(queue, "a");
    holder_leave(closer);
    STATUS(SHMKIT_OK, shmkit_queue_unlink(queue));
    done(queue);
}

static void test_options(void)
{
    QUEUE *none = NULL;
    shmkit_queue_options bad[] = {
        with(1, 0, 0),
        with(992, 0, 0),
        with(1025, 0, 0),
        with((UINT64_C(1) << 46) + 32, 0, 0),
        with(UINT64_MAX, 0, 0),
        with(0, 0, SHMKIT_QUEUE_FAIL | SHMKIT_QUEUE_OVERWRITE),
    };
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++) {
        STATUS(SHMKIT_ERR_INVALID, shmkit_queue_create(NULL, &bad[at], &none));
        STATUS(SHMKIT_ERR_INVALID, shmkit_queue_create("bad", &bad[at], &none));
    }
    CHECK(none == NULL && check_entries() == 0);
}

static void test_bad_arguments(void)
{
    QUEUE *queue = unnamed(0, 0, 0);
    uint64_t out = 7;
    char byte = 'x';
    const void *data = NULL;
    void *place = NULL;
    const shmkit_queue_message nowhere = {NULL, 1};
    put(queue, "stays");
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_put(queue, NULL, 1, SHMKIT_NOWAIT, 0));
    STATUS(SHMKIT_ERR_TOO_LARGE, shmkit_queue_put(queue, &byte, UINT64_MAX, SHMKIT_NOWAIT, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_put(queue, &byte, 1, -2, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_put(queue, &byte, 1, SHMKIT_NOWAIT, 2));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_get(queue, &byte, 1, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_get(queue, NULL, 1, SHMKIT_NOWAIT, 0, &out));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_get(queue, &byte, 1, INT64_MIN, 0, &out));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_get(queue, &byte, 1, SHMKIT_NOWAIT, 2, &out));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_peek(queue, NULL, 0, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_put_many(queue, &nowhere, 1, SHMKIT_NOWAIT, 0, &out));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_put_many(queue, NULL, 1, SHMKIT_NOWAIT, 0, &out));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_put_many(queue, NULL, 0, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_get_many(queue, &byte, 1, NULL, 1, SHMKIT_NOWAIT, 0, &out));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_get_many(queue, NULL, 1, &out, 1, SHMKIT_NOWAIT, 0, &out));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_get_many(queue, &byte, 1, &out, 1, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_reserve(queue, 1, SHMKIT_NOWAIT, 0, NULL, &out));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_reserve(queue, 1, SHMKIT_NOWAIT, 0, &place, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_lease(queue, SHMKIT_NOWAIT, 0, NULL, &out, &out, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_lease(queue, SHMKIT_NOWAIT, 0, &data, NULL, &out, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_lease(queue, SHMKIT_NOWAIT, 0, &data, &out, NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_join(queue, -2, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_is_full(queue, NULL));
    CHECK(out == 7 && byte == 'x' && data == NULL && place == NULL);
    CHECK(told(queue).reserved == 0 && told(queue).leased == 0);
    get(queue, "stays");
    done(queue);
}

/* Bytes that somebody has written over. */
static void test_hostile(void)
{
    enum { WORDS = 576 / 8, CAPACITY = 1 };
    shmkit_segment *segment = managed_segment(NULL, 8192);
    shmkit_queue_options options = with(2048, 0, 0);
    QUEUE *queue = NULL, *none = NULL;
    void *data = NULL;
    STATUS(SHMKIT_OK, shmkit_queue_create_at(segment, 0, &options, &queue));
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    uint64_t *words = (uint64_t *)data;
    put(queue, "a");
    /* The record of the only message: its position. */
    words[WORDS + 1] ^= 1;
    STATUS(SHMKIT_ERR_CORRUPT, look(queue, SHMKIT_NOWAIT));
    words[WORDS + 1] ^= 1;
    get(queue, "a");
    words[CAPACITY] = UINT64_C(1) << 40;
    STATUS(SHMKIT_ERR_CORRUPT, shmkit_queue_open_at(segment, 0, NULL, &none));
    CHECK(none == NULL);
    done(queue);
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void lose_all_descriptors(void *queue)
{
    uint64_t out = 7;
    char byte;
    get((QUEUE *)queue, "a");
    struct holder other = holder_start(reserve_some, nothing, queue);
    for (int fd = 3; fd < 1024; fd++)
        if (fd != other.order)
            close(fd);
    /* Whether who has reserved it lives cannot be asked any more. */
    STATUS(SHMKIT_ERR_LIVENESS_UNKNOWN, shmkit_queue_get((QUEUE *)queue, &byte, 1, SHMKIT_FOREVER, 0, &out));
    CHECK(out == 7);
    holder_kill(other);
}

enum { THREADS = 3, EACH = 5000 };

static void *produce(void *queue)
{
    bool good = true;
    for (uint64_t number = 1; number <= EACH; number++)
        good = good && shmkit_queue_put((QUEUE *)queue, &number, sizeof number, SHMKIT_FOREVER, 0) == SHMKIT_OK;
    CHECK(good);
    return NULL;
}

static void *consume(void *queue)
{
    uint64_t number = 0, sum = 0, size = 0;
    while (shmkit_queue_get((QUEUE *)queue, &number, sizeof number, SHMKIT_FOREVER, 0, &size) == SHMKIT_OK)
        sum += number;
    return (void *)(uintptr_t)sum;
}

/* One handle, many threads. */
static void test_threads(void)
{
    QUEUE *queue = unnamed(4096, 0, 0);
    pthread_t producers[THREADS], consumers[THREADS];
    uint64_t sum = 0;
    for (int at = 0; at < THREADS; at++) {
        CHECK(pthread_create(&producers[at], NULL, produce, queue) == 0);
        CHECK(pthread_create(&consumers[at], NULL, consume, queue) == 0);
    }
    for (int at = 0; at < THREADS; at++)
        CHECK(pthread_join(producers[at], NULL) == 0);
    STATUS(SHMKIT_OK, shmkit_queue_shutdown(queue));
    for (int at = 0; at < THREADS; at++) {
        void *part = NULL;
        CHECK(pthread_join(consumers[at], &part) == 0);
        sum += (uintptr_t)part;
    }
    CHECK(sum == UINT64_C(3) * EACH * (EACH + 1) / 2);
    done(queue);
}

static void tests(void)
{
    CHECK(check_fork(no_memory, NULL) == 0);
    test_in_and_out();
    test_large();
    test_bounds();
    test_several();
    test_reserve();
    test_lease();
    test_waits();
    test_death();
    test_interrupts();
    test_shutdown();
    test_fileno();
    QUEUE *queue = unnamed(0, 0, 0);
    CHECK(check_fork(no_descriptor, queue) == 0);
    put(queue, "a");
    CHECK(check_fork(lose_all_descriptors, queue) == 0);
    done(queue);
    test_stopped();
    test_threads();
    test_opened_as_it_was_made();
    test_placed();
    test_participants();
    test_closed_while_held();
    test_options();
    test_bad_arguments();
    test_hostile();
}

int main(void)
{
    return check_main(tests);
}
