/* Queues in C: put and get, several messages, reserve and lease, waits, deaths, shutdown, and bad arguments. */
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

static shmkit_queue_info info_of(const QUEUE *queue)
{
    shmkit_queue_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_OK, shmkit_queue_stat(queue, &info));
    CHECK(info.struct_size == sizeof info && info.unused == 0);
    return info;
}

static shmkit_status try_put(QUEUE *queue, const char *text)
{
    return shmkit_queue_put(queue, text, strlen(text), SHMKIT_NOWAIT, 0);
}

static void put(QUEUE *queue, const char *text)
{
    STATUS(SHMKIT_OK, try_put(queue, text));
}

/* Gets a message, and checks its text. */
static void get(QUEUE *queue, const char *text)
{
    char buffer[64];
    uint64_t size = 7;
    STATUS(SHMKIT_OK, shmkit_queue_get(queue, buffer, sizeof buffer, SHMKIT_FOREVER, 0, &size));
    CHECK(size == strlen(text) && memcmp(buffer, text, size) == 0);
}

/* Returns the status of a get that must return no message. */
static shmkit_status get_nothing(QUEUE *queue, int64_t timeout)
{
    char byte = 'x';
    uint64_t size = 7;
    shmkit_status status = shmkit_queue_get(queue, &byte, 1, timeout, 0, &size);
    CHECK(byte == 'x' && size == 7);
    return status;
}

/* Leases a message, checks its text and the number of attempts, and returns its token. */
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
    void *room = NULL;
    uint64_t token = 7;
    STATUS(SHMKIT_OK, shmkit_queue_reserve(queue, size, SHMKIT_FOREVER, 0, &room, &token));
    CHECK(room != NULL && (uintptr_t)room % 32 == 0);
    *data = (char *)room;
    return token;
}

static void close_queue(QUEUE *queue)
{
    STATUS(SHMKIT_OK, shmkit_queue_close(queue));
}

static void test_put_and_get(void)
{
    QUEUE *queue = NULL;
    char buffer[8];
    uint64_t size = 7;
    uint32_t full = 7;
    STATUS(SHMKIT_OK, shmkit_queue_create(NULL, NULL, &queue));
    STATUS(SHMKIT_ERR_EMPTY, get_nothing(queue, SHMKIT_NOWAIT));
    STATUS(SHMKIT_ERR_TIMEOUT, get_nothing(queue, 2000000));
    put(queue, "one");
    put(queue, "");
    STATUS(SHMKIT_OK, shmkit_queue_put(queue, NULL, 0, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE));
    put(queue, "the last of them");
    CHECK(info_of(queue).messages == 4 && info_of(queue).bytes == 19);
    /* A peek copies the beginning and returns the size of the whole message. */
    STATUS(SHMKIT_OK, shmkit_queue_peek(queue, buffer, 2, SHMKIT_NOWAIT, 0, &size));
    CHECK(size == 3 && memcmp(buffer, "on", 2) == 0);
    STATUS(SHMKIT_OK, shmkit_queue_peek(queue, NULL, 0, SHMKIT_NOWAIT, 0, &size));
    CHECK(size == 3 && info_of(queue).messages == 4);
    get(queue, "one");
    get(queue, "");
    get(queue, "");
    STATUS(SHMKIT_ERR_TOO_LARGE, shmkit_queue_get(queue, buffer, sizeof buffer, SHMKIT_NOWAIT, 0, &size));
    CHECK(size == 3);
    get(queue, "the last of them");
    STATUS(SHMKIT_ERR_EMPTY, shmkit_queue_peek(queue, NULL, 0, SHMKIT_NOWAIT, 0, &size));
    STATUS(SHMKIT_OK, shmkit_queue_is_full(queue, &full));
    CHECK(full == 0 && size == 3 && info_of(queue).puts == 4 && info_of(queue).gets == 4);
    CHECK(info_of(queue).capacity == UINT64_C(64) << 30 && info_of(queue).largest == UINT64_C(32) << 30);
    CHECK(info_of(queue).maxsize == 0 && info_of(queue).max_bytes == 0 && info_of(queue).flags == 0);
    close_queue(queue);
}

static void test_large_messages(void)
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
    CHECK(info_of(queue).memory >= 10 * LARGE);
    for (int times = 0; times < 10; times++) {
        memset(same, 0, LARGE);
        STATUS(SHMKIT_OK, shmkit_queue_get(queue, same, LARGE, SHMKIT_NOWAIT, 0, &size));
        CHECK(size == LARGE && memcmp(message, same, LARGE) == 0);
    }
    STATUS(SHMKIT_ERR_EMPTY, get_nothing(queue, SHMKIT_NOWAIT));
    close_queue(queue);
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
    uint32_t full = 7;
    options.max_bytes = 100;
    STATUS(SHMKIT_OK, shmkit_queue_create(NULL, &options, &queue));
    CHECK(info_of(queue).largest == 100 && info_of(queue).maxsize == 3 && info_of(queue).max_bytes == 100);
    STATUS(SHMKIT_ERR_TOO_LARGE, shmkit_queue_put(queue, buffer, 101, SHMKIT_FOREVER, 0));
    STATUS(SHMKIT_ERR_TOO_LARGE, shmkit_queue_reserve(queue, 101, SHMKIT_FOREVER, 0, &data, &token));
    STATUS(SHMKIT_OK, shmkit_queue_put(queue, buffer, 80, SHMKIT_NOWAIT, 0));
    STATUS(SHMKIT_ERR_FULL, shmkit_queue_put(queue, buffer, 21, SHMKIT_NOWAIT, 0));
    put(queue, "a");
    put(queue, "b");
    STATUS(SHMKIT_ERR_FULL, try_put(queue, ""));
    STATUS(SHMKIT_ERR_FULL, shmkit_queue_reserve(queue, 0, SHMKIT_NOWAIT, 0, &data, &token));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_queue_put(queue, NULL, 0, 2000000, 0));
    STATUS(SHMKIT_OK, shmkit_queue_is_full(queue, &full));
    CHECK(full == 1 && data == NULL && token == 7);
    close_queue(queue);

    queue = unnamed(1024, 0, SHMKIT_QUEUE_FAIL);
    CHECK(info_of(queue).largest == 512);
    STATUS(SHMKIT_OK, shmkit_queue_put(queue, buffer, 512, SHMKIT_FOREVER, 0));
    STATUS(SHMKIT_ERR_TOO_LARGE, shmkit_queue_put(queue, buffer, 513, SHMKIT_FOREVER, 0));
    STATUS(SHMKIT_OK, shmkit_queue_put(queue, buffer, 400, SHMKIT_FOREVER, 0));
    /* With SHMKIT_QUEUE_FAIL a put never waits, whatever its timeout. */
    STATUS(SHMKIT_ERR_FULL, shmkit_queue_put(queue, buffer, 400, SHMKIT_FOREVER, 0));
    CHECK(info_of(queue).flags == SHMKIT_QUEUE_FAIL && info_of(queue).messages == 2);
    close_queue(queue);

    queue = unnamed(0, 2, SHMKIT_QUEUE_OVERWRITE);
    put(queue, "a");
    put(queue, "b");
    put(queue, "c");
    CHECK(info_of(queue).flags == SHMKIT_QUEUE_OVERWRITE && info_of(queue).overwritten == 1);
    get(queue, "b");
    get(queue, "c");
    close_queue(queue);
}

static void test_put_many_and_get_many(void)
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
    /* No messages are requested: the calls return at once. */
    STATUS(SHMKIT_OK, shmkit_queue_put_many(queue, NULL, 0, SHMKIT_FOREVER, 0, &count));
    CHECK(count == 0);
    count = 7;
    STATUS(SHMKIT_OK, shmkit_queue_get_many(queue, NULL, 0, NULL, 0, SHMKIT_FOREVER, 0, &count));
    CHECK(count == 0);
    close_queue(queue);
}

static void test_reserve(void)
{
    QUEUE *queue = unnamed(4096, 0, 0);
    char *first = NULL, *second = NULL, *third = NULL;
    uint64_t one = reserve(queue, 100, &first), two = reserve(queue, 5, &second);
    put(queue, "behind");
    uint64_t three = reserve(queue, 0, &third);
    memcpy(first, "first", 5);
    memcpy(second, "abort", 5);
    STATUS(SHMKIT_ERR_EMPTY, get_nothing(queue, SHMKIT_NOWAIT));
    shmkit_queue_info info = info_of(queue);
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
    CHECK(info_of(queue).skipped == 1 && info_of(queue).held_up_by_ticket == 0);
    close_queue(queue);
}

static void use_tokens_of_another_process(void *argument)
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
    char *room = NULL;
    uint64_t size = 7, token = 7, none[] = {0, 1, 32, UINT64_MAX};
    put(queue, "a");
    put(queue, "b");
    uint64_t first = lease(queue, "a", 1);
    uint64_t tokens[] = {first, reserve(queue, 8, &room)};
    void *argument[] = {queue, tokens};
    CHECK(check_fork(use_tokens_of_another_process, argument) == 0);
    STATUS(SHMKIT_OK, shmkit_queue_abort(queue, tokens[1]));
    CHECK(info_of(queue).leased == 1 && info_of(queue).messages == 1);
    get(queue, "b");
    STATUS(SHMKIT_ERR_EMPTY, get_nothing(queue, SHMKIT_NOWAIT));
    STATUS(SHMKIT_OK, shmkit_queue_nack(queue, first));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_nack(queue, first));
    STATUS(SHMKIT_ERR_NOT_OWNER, shmkit_queue_ack(queue, first));
    put(queue, "c");
    /* The message that was returned by nack comes first. */
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
    CHECK(data == NULL && size == 7 && token == 7 && info_of(queue).redelivered == 1);
    /* The output for the number of attempts may be NULL. */
    put(queue, "d");
    STATUS(SHMKIT_OK, shmkit_queue_lease(queue, SHMKIT_NOWAIT, 0, &data, &size, &token, NULL));
    STATUS(SHMKIT_OK, shmkit_queue_ack(queue, token));
    STATUS(SHMKIT_OK, shmkit_queue_join(queue, SHMKIT_FOREVER, 0));
    close_queue(queue);
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

static void join(void *queue)
{
    STATUS(SHMKIT_OK, shmkit_queue_join((QUEUE *)queue, SHMKIT_FOREVER, 0));
}

static void await_sleepers(const QUEUE *queue, uint64_t gets, uint64_t puts)
{
    while (info_of(queue).get_waits < gets || info_of(queue).put_waits < puts)
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
    struct holder joiner = holder_run(join, queue);
    await_sleepers(queue, 1, 2);
    get(queue, "b");
    CHECK(holder_end(joiner) == 0);
    close_queue(queue);
}

static void test_deaths_of_consumers_and_producers(void)
{
    QUEUE *queue = unnamed(0, 2, 0);
    put(queue, "a");
    struct holder lessee = holder_start(lease_a, do_nothing, queue);
    STATUS(SHMKIT_ERR_EMPTY, get_nothing(queue, SHMKIT_NOWAIT));
    holder_kill(lessee);
    uint64_t token = lease(queue, "a", 2);
    STATUS(SHMKIT_OK, shmkit_queue_ack(queue, token));
    CHECK(info_of(queue).redelivered == 1);
    /* A process that exits counts as dead too: a sleeping consumer gets the message of its lease. */
    put(queue, "a");
    lessee = holder_start(lease_a, do_nothing, queue);
    uint64_t slept = info_of(queue).get_waits;
    struct holder consumer = holder_run(get_a, queue);
    await_sleepers(queue, slept + 1, 0);
    holder_finish(lessee);
    CHECK(holder_end(consumer) == 0);
    /* If a producer dies with a reservation, consumers skip it and producers use its room. */
    struct holder reserver = holder_start(reserve_some, do_nothing, queue);
    put(queue, "b");
    CHECK(info_of(queue).held_up_by_pid == (uint32_t)reserver.pid);
    STATUS(SHMKIT_ERR_EMPTY, get_nothing(queue, SHMKIT_NOWAIT));
    STATUS(SHMKIT_ERR_FULL, try_put(queue, "c"));
    slept = info_of(queue).get_waits;
    consumer = holder_run(get_b, queue);
    struct holder producer = holder_run(put_b, queue);
    await_sleepers(queue, slept + 1, 1);
    holder_kill(reserver);
    CHECK(holder_end(consumer) == 0 && holder_end(producer) == 0);
    get(queue, "b");
    CHECK(info_of(queue).skipped == 1);
    STATUS(SHMKIT_OK, shmkit_queue_join(queue, SHMKIT_NOWAIT, 0));
    close_queue(queue);
}

static void ends_at_the_third_call(void *queue)
{
    int calls = 0;
    char buffer[8];
    uint64_t out = 7;
    const void *data = NULL;
    const uint32_t flags = SHMKIT_INTERRUPTIBLE;
    STATUS(SHMKIT_OK, shmkit_set_interrupt(interrupt_third_call, &calls));
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
    /* A reservation holds up the queue, fills it, and keeps a join waiting. */
    QUEUE *queue = unnamed(0, 1, 0);
    char *data = NULL;
    uint64_t token = reserve(queue, 1, &data);
    CHECK(check_fork(ends_at_the_third_call, queue) == 0);
    STATUS(SHMKIT_OK, shmkit_queue_abort(queue, token));
    close_queue(queue);
}

static void get_fails_after_shutdown(void *queue)
{
    STATUS(SHMKIT_ERR_SHUT_DOWN, get_nothing((QUEUE *)queue, SHMKIT_FOREVER));
}

static void test_shutdown(void)
{
    QUEUE *queue = unnamed(0, 0, 0);
    char *data = NULL;
    uint64_t token = 7, put_out = 7;
    void *room = NULL;
    const shmkit_queue_message message = {"late", 4};
    struct holder consumer = holder_run(get_fails_after_shutdown, queue);
    await_sleepers(queue, 1, 0);
    STATUS(SHMKIT_OK, shmkit_queue_shutdown(queue));
    CHECK(holder_end(consumer) == 0);
    close_queue(queue);

    queue = unnamed(0, 0, 0);
    put(queue, "left");
    uint64_t reserved = reserve(queue, 4, &data);
    STATUS(SHMKIT_OK, shmkit_queue_shutdown(queue));
    STATUS(SHMKIT_OK, shmkit_queue_shutdown(queue));
    CHECK(info_of(queue).flags == SHMKIT_QUEUE_SHUTDOWN);
    STATUS(SHMKIT_ERR_SHUT_DOWN, try_put(queue, "late"));
    STATUS(SHMKIT_ERR_SHUT_DOWN, shmkit_queue_put_many(queue, &message, 1, SHMKIT_NOWAIT, 0, &put_out));
    STATUS(SHMKIT_ERR_SHUT_DOWN, shmkit_queue_reserve(queue, 1, SHMKIT_NOWAIT, 0, &room, &token));
    CHECK(put_out == 7 && token == 7 && room == NULL);
    token = lease(queue, "left", 1);
    memcpy(data, "last", 4);
    STATUS(SHMKIT_OK, shmkit_queue_commit(queue, reserved, 4));
    STATUS(SHMKIT_OK, shmkit_queue_nack(queue, token));
    get(queue, "left");
    get(queue, "last");
    STATUS(SHMKIT_ERR_SHUT_DOWN, get_nothing(queue, SHMKIT_FOREVER));
    STATUS(SHMKIT_ERR_SHUT_DOWN, get_nothing(queue, SHMKIT_NOWAIT));
    STATUS(SHMKIT_OK, shmkit_queue_join(queue, SHMKIT_FOREVER, 0));
    close_queue(queue);
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
    struct holder other = holder_start(do_nothing, put_b, queue);
    STATUS(SHMKIT_OK, shmkit_queue_fileno(queue, SHMKIT_QUEUE_MESSAGES, &messages));
    STATUS(SHMKIT_OK, shmkit_queue_fileno(queue, SHMKIT_QUEUE_ROOM, &room));
    STATUS(SHMKIT_OK, shmkit_queue_fileno(queue, SHMKIT_QUEUE_ROOM, &same));
    CHECK(messages != room && same == room && !readable(messages, 0) && readable(room, -1));
    holder_finish(other);
    CHECK(readable(messages, -1));
    while (readable(room, 0))
        STATUS(SHMKIT_ERR_FULL, try_put(queue, "full"));
    get(queue, "b");
    CHECK(readable(room, -1));
    while (readable(messages, 0))
        STATUS(SHMKIT_ERR_EMPTY, get_nothing(queue, SHMKIT_NOWAIT));
    close_queue(queue);
}

static void fileno_without_descriptors(void *queue)
{
    struct rlimit none = {0, 0};
    int32_t fd = -7;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    STATUS(SHMKIT_ERR_UNSUPPORTED, shmkit_queue_fileno((QUEUE *)queue, SHMKIT_QUEUE_MESSAGES, &fd));
    CHECK(fd == -7);
}

static void put_without_memory(void *unused)
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
    close_queue(queue);
    CHECK(setrlimit(RLIMIT_AS, &space) == 0);
    STATUS(SHMKIT_ERR_NO_MEMORY, shmkit_queue_create(NULL, NULL, &none));
    CHECK(none == NULL);
    close_queue(unnamed(1 << 20, 0, 0));
}

static void put_forever(void *queue)
{
    static char message[60000];
    while (shmkit_queue_put((QUEUE *)queue, message, sizeof message, SHMKIT_FOREVER, 0) == SHMKIT_OK) {
    }
}

/* A process that is stopped inside a call is alive: SHMKIT_NOWAIT fails with WOULD_BLOCK, a wait with TIMEOUT. */
static void test_stopped_producer(void)
{
    /* The queue overwrites, so that the producer never waits and needs little memory. */
    QUEUE *queue = unnamed(256 << 10, 1, SHMKIT_QUEUE_OVERWRITE);
    shmkit_status status = SHMKIT_OK;
    struct holder producer = holder_run(put_forever, queue);
    while (status != SHMKIT_ERR_WOULD_BLOCK) {
        kill(producer.pid, SIGSTOP);
        CHECK(waitpid(producer.pid, NULL, WUNTRACED) == producer.pid);
        uint32_t full = 7;
        status = shmkit_queue_is_full(queue, &full);
        CHECK(status == SHMKIT_OK || status == SHMKIT_ERR_WOULD_BLOCK);
        if (status == SHMKIT_OK) {
            kill(producer.pid, SIGCONT);
            usleep(200);
        }
    }
    STATUS(SHMKIT_ERR_WOULD_BLOCK, try_put(queue, "a"));
    STATUS(SHMKIT_ERR_TIMEOUT, shmkit_queue_put(queue, "a", 1, 1, 0));
    kill(producer.pid, SIGCONT);
    holder_kill(producer);
    STATUS(SHMKIT_OK, shmkit_queue_put(queue, "a", 1, SHMKIT_FOREVER, 0));
    get(queue, "a");
    STATUS(SHMKIT_ERR_EMPTY, get_nothing(queue, SHMKIT_NOWAIT));
    close_queue(queue);
}

/* An open accepts these options, and the queue keeps its own. */
static void test_open_keeps_the_options(void)
{
    shmkit_queue_options options = with(8192, 5, 0), other = with(0, 6, SHMKIT_QUEUE_OVERWRITE);
    QUEUE *queue = NULL, *same = NULL;
    STATUS(SHMKIT_OK, shmkit_queue_create("queue", &options, &queue));
    STATUS(SHMKIT_OK, shmkit_queue_open("queue", &other, &same));
    CHECK(info_of(same).flags == 0 && info_of(same).capacity == 8192 && info_of(same).maxsize == 5);
    STATUS(SHMKIT_OK, shmkit_queue_unlink(same));
    close_queue(same);
    close_queue(queue);
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
    /* A queue with the default capacity does not fit into the segment. */
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_create_at(segment, 64, NULL, &none));
    CHECK(none == NULL);
    STATUS(SHMKIT_OK, shmkit_queue_create_at(segment, 64, &options, &queue));
    STATUS(SHMKIT_OK, shmkit_queue_open_at(segment, 64, NULL, &same));
    CHECK(info_of(same).maxsize == 0 && info_of(same).offset == 64);
    /* The queue neither grows nor writes beyond its end. */
    while (try_put(queue, "a message that fills it") == SHMKIT_OK) {
    }
    STATUS(SHMKIT_ERR_FULL, try_put(queue, "a message that fills it"));
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    for (size_t at = 64 + size; at < 8192; at++)
        if (!CHECK(((volatile char *)data)[at] == 0))
            break;
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    get(same, "a message that fills it");
    close_queue(same);
    close_queue(queue);
}

static void put_as_participant(void *name)
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
    struct holder only = holder_start(put_as_participant, do_nothing, name);
    STATUS(SHMKIT_OK, shmkit_queue_open(name, NULL, &queue));
    STATUS(SHMKIT_ERR_TOO_MANY_PROCESSES, get_nothing(queue, SHMKIT_NOWAIT));
    STATUS(SHMKIT_ERR_TOO_MANY_PROCESSES, try_put(queue, "b"));
    holder_kill(only);
    get(queue, "a");
    STATUS(SHMKIT_OK, shmkit_queue_unlink(queue));
    close_queue(queue);
}

static void lease_and_close(void *name)
{
    QUEUE *queue = NULL;
    STATUS(SHMKIT_OK, shmkit_queue_open((const char *)name, NULL, &queue));
    lease(queue, "a", 1);
    close_queue(queue);
}

static void test_closed_while_held(void)
{
    char name[] = "closed";
    QUEUE *queue = NULL;
    STATUS(SHMKIT_OK, shmkit_queue_create(name, NULL, &queue));
    put(queue, "a");
    close_queue(queue);
    struct holder closer = holder_start(lease_and_close, do_nothing, name);
    STATUS(SHMKIT_OK, shmkit_queue_open(name, NULL, &queue));
    get(queue, "a");
    holder_finish(closer);
    STATUS(SHMKIT_OK, shmkit_queue_unlink(queue));
    close_queue(queue);
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
    void *room = NULL;
    const shmkit_queue_message no_data = {NULL, 1};
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
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_put_many(queue, &no_data, 1, SHMKIT_NOWAIT, 0, &out));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_put_many(queue, NULL, 1, SHMKIT_NOWAIT, 0, &out));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_put_many(queue, NULL, 0, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_get_many(queue, &byte, 1, NULL, 1, SHMKIT_NOWAIT, 0, &out));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_get_many(queue, NULL, 1, &out, 1, SHMKIT_NOWAIT, 0, &out));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_get_many(queue, &byte, 1, &out, 1, SHMKIT_NOWAIT, 0, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_reserve(queue, 1, SHMKIT_NOWAIT, 0, NULL, &out));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_reserve(queue, 1, SHMKIT_NOWAIT, 0, &room, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_lease(queue, SHMKIT_NOWAIT, 0, NULL, &out, &out, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_lease(queue, SHMKIT_NOWAIT, 0, &data, NULL, &out, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_lease(queue, SHMKIT_NOWAIT, 0, &data, &out, NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_join(queue, -2, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_queue_is_full(queue, NULL));
    CHECK(out == 7 && byte == 'x' && data == NULL && room == NULL);
    CHECK(info_of(queue).reserved == 0 && info_of(queue).leased == 0);
    get(queue, "stays");
    close_queue(queue);
}

/* Corrupt bytes are reported as SHMKIT_ERR_CORRUPT. */
static void test_hostile_bytes(void)
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
    /* The position in the record of the only message. */
    words[WORDS + 1] ^= 1;
    STATUS(SHMKIT_ERR_CORRUPT, get_nothing(queue, SHMKIT_NOWAIT));
    words[WORDS + 1] ^= 1;
    get(queue, "a");
    words[CAPACITY] = UINT64_C(1) << 40;
    STATUS(SHMKIT_ERR_CORRUPT, shmkit_queue_open_at(segment, 0, NULL, &none));
    CHECK(none == NULL);
    close_queue(queue);
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void get_without_descriptors(void *queue)
{
    uint64_t out = 7;
    char byte;
    get((QUEUE *)queue, "a");
    struct holder other = holder_start(reserve_some, do_nothing, queue);
    for (int fd = 3; fd < 1024; fd++)
        if (fd != other.command)
            close(fd);
    /* Without descriptors this process cannot check whether the producer of the reservation is alive. */
    STATUS(SHMKIT_ERR_LIVENESS_UNKNOWN, shmkit_queue_get((QUEUE *)queue, &byte, 1, SHMKIT_FOREVER, 0, &out));
    CHECK(out == 7);
    holder_kill(other);
}

enum { THREADS = 3, MESSAGES = 5000 };

static void *produce(void *queue)
{
    bool good = true;
    for (uint64_t number = 1; number <= MESSAGES; number++)
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

/* Many threads use one handle. */
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
    CHECK(sum == UINT64_C(3) * MESSAGES * (MESSAGES + 1) / 2);
    close_queue(queue);
}

static void tests(void)
{
    CHECK(check_fork(put_without_memory, NULL) == 0);
    test_put_and_get();
    test_large_messages();
    test_bounds();
    test_put_many_and_get_many();
    test_reserve();
    test_lease();
    test_waits();
    test_deaths_of_consumers_and_producers();
    test_interrupts();
    test_shutdown();
    test_fileno();
    QUEUE *queue = unnamed(0, 0, 0);
    CHECK(check_fork(fileno_without_descriptors, queue) == 0);
    put(queue, "a");
    CHECK(check_fork(get_without_descriptors, queue) == 0);
    close_queue(queue);
    test_stopped_producer();
    test_threads();
    test_open_keeps_the_options();
    test_placed();
    test_participants();
    test_closed_while_held();
    test_options();
    test_bad_arguments();
    test_hostile_bytes();
}

int main(void)
{
    return check_main(tests);
}
