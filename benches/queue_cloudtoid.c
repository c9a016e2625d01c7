/*
 * The algorithm of cloudtoid's Interprocess, version 3, written after its description and its Rust core:
 * https://github.com/cloudtoid/interprocess/blob/main/docs/protocol.md
 *
 *   record  | i32 state: 0 unfinished, 1 being read, 2 ready | i32 length | bytes | padding to a multiple of 8 |
 *
 * put enters: it increments its active count and checks the gate. It moves the write position by compare-and-swap,
 * copies the message and sets state = 2. It exchanges the notification, posts if there was none, and leaves.
 *
 * get stores its id as the only reader by compare-and-swap, then claims the record and copies it. It clears the record
 * to zeros, moves the read position, and resets the reader. A batch enters once to put; get takes single messages.
 *
 * All steps while no process has died are here, including the reading of the clock. The steps ten seconds after a death
 * are missing: checking whether the reader lives, and discarding the messages behind an abandoned record.
 */

#include "queue.h"

#include <sched.h>
#include <semaphore.h>
#include <stdbool.h>
#include <sys/mman.h>

enum { MAX_PUBLISHERS = 2048, UNFINISHED = 0, CLAIMED = 1, READY = 2 };

/* How often an idle process retries before it yields the processor. */
static const int TRIES = 100;
/* The longest sleep of a reader, and the interval of its checks whether another reader lives. */
static const long SLICE_NS = 5000000;
static const int64_t RECOVERY_MS = 10000;

struct shared {
	_Atomic int64_t read, write, reader;
	atomic_int notification, participants;
	_Alignas(128) atomic_int gate;
	struct {
		_Alignas(128) _Atomic int64_t owner;
		atomic_int active;
	} publishers[MAX_PUBLISHERS];
	/* The semaphore of the original has a name. */
	_Alignas(128) sem_t signal;
	_Alignas(4096) char data[];
};

/* The state of each process. */
struct endpoint {
	struct shared *shared;
	size_t capacity;
	int64_t id, next_check;
	int slot;
	/* The unfinished record that a reader found, and the time. */
	struct {
		int64_t started, read, tail;
	} pending;
};

/* Pauses an idle process before its next try. */
static void rest_after(int tries)
{
	if (tries % TRIES == 0)
		sched_yield();
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static int64_t now_ms(void)
{
	return now() / 1000000;
}

static void *make(size_t size, size_t room, const char **why)
{
	struct endpoint *made = calloc(1, sizeof(*made));

	(void)size;
	if (!made)
		return NULL;
	made->capacity = room;
	made->pending.read = -1;
	made->shared = shared_memory(sizeof(*made->shared) + room, MAP_POPULATE);
	if (made->shared && sem_init(&made->shared->signal, 1, 0) == 0)
		return made;
	*why = strerror(errno);
	free(made);
	return NULL;
}

static void unmake(void *it)
{
	struct endpoint *end = it;

	munmap(end->shared, sizeof(*end->shared) + end->capacity);
	free(end);
}

/* Assigns an id and takes a publisher slot. */
static int enroll(void *it)
{
	struct endpoint *end = it;

	end->id = atomic_fetch_add(&end->shared->participants, 1) + 1;
	end->next_check = now_ms() + RECOVERY_MS;
	for (end->slot = 0; end->slot < MAX_PUBLISHERS; end->slot++) {
		int64_t unowned = 0;

		if (atomic_compare_exchange_strong(&end->shared->publishers[end->slot].owner, &unowned, end->id))
			return 0;
	}
	return -1;
}

static char *place(const struct endpoint *end, int64_t position)
{
	return end->shared->data + (size_t)position % end->capacity;
}

static atomic_int *state(const struct endpoint *end, int64_t position)
{
	return (atomic_int *)(void *)place(end, position);
}

static size_t before_the_end(const struct endpoint *end, int64_t position, size_t size)
{
	size_t left = end->capacity - (size_t)position % end->capacity;

	return size < left ? size : left;
}

static void notify(struct shared *shared)
{
	if (atomic_exchange(&shared->notification, 1) == 0)
		sem_post(&shared->signal);
}

static bool is_empty(const struct shared *shared)
{
	return atomic_load_explicit(&shared->read, memory_order_acquire) ==
	       atomic_load_explicit(&shared->write, memory_order_acquire);
}

/* --- publishers -------------------------------------------------------------------------------------------------- */

static bool enter(struct endpoint *end)
{
	atomic_int *active = &end->shared->publishers[end->slot].active;

	atomic_fetch_add(active, 1);
	if (atomic_load_explicit(&end->shared->gate, memory_order_acquire) == 0)
		return true;
	atomic_fetch_sub(active, 1);
	return false;
}

static void leave(struct endpoint *end)
{
	atomic_fetch_sub(&end->shared->publishers[end->slot].active, 1);
}

static bool send(struct endpoint *end, const char *data, size_t size)
{
	struct shared *shared = end->shared;
	size_t need = (size + 15) & ~(size_t)7, right;
	int32_t length = (int32_t)size;
	int64_t write;

	if (need > end->capacity)
		return false;
	do {
		int64_t read = atomic_load_explicit(&shared->read, memory_order_acquire);

		write = atomic_load_explicit(&shared->write, memory_order_acquire);
		if (write - read > (int64_t)(end->capacity - need))
			return false;
	} while (!atomic_compare_exchange_strong_explicit(&shared->write, &write, write + (int64_t)need,
							  memory_order_seq_cst, memory_order_acquire));
	right = before_the_end(end, write + 8, size);
	memcpy(place(end, write + 8), data, right);
	memcpy(place(end, 0), data + right, size - right);
	memcpy(place(end, write) + 4, &length, sizeof(length));
	atomic_store_explicit(state(end, write), READY, memory_order_release);
	notify(shared);
	return true;
}

/* Sends the messages that fit; returns their number. */
static int try_send_many(struct endpoint *end, const char *data, size_t size, int count)
{
	int sent = 0;

	if (!enter(end))
		return 0;
	while (sent < count && send(end, data + (size_t)sent * size, size))
		sent++;
	leave(end);
	return sent;
}

static int put_many(void *it, const char *data, size_t size, int count)
{
	for (int sent = 0, tries = 1; sent < count; tries++) {
		sent += try_send_many(it, data + (size_t)sent * size, size, count - sent);
		if (sent < count)
			rest_after(tries);
	}
	return 0;
}

static int put(void *it, const void *data, size_t size)
{
	return put_many(it, data, size, 1);
}

/* --- subscribers ------------------------------------------------------------------------------------------------- */

/* Reads the clock to determine whether a check is due. */
static void suspect(struct endpoint *end)
{
	int64_t time = now_ms();

	if (time >= end->next_check)
		end->next_check = time + RECOVERY_MS;
}

static void meet_unfinished(struct endpoint *end, int64_t read)
{
	int64_t time = now_ms();

	if (end->pending.read == read)
		return;
	end->pending.started = time;
	end->pending.read = read;
	end->pending.tail = atomic_load_explicit(&end->shared->write, memory_order_acquire);
}

/* Reads as the only reader; returns the length, -1 if there is no message, -2 if the message does not fit. */
static ssize_t read_next(struct endpoint *end, char *buffer, size_t capacity)
{
	struct shared *shared = end->shared;
	int32_t length;
	int ready = READY;
	size_t right, whole;
	int64_t read;

	if (is_empty(shared))
		return -1;
	read = atomic_load_explicit(&shared->read, memory_order_acquire);
	if (!atomic_compare_exchange_strong_explicit(state(end, read), &ready, CLAIMED, memory_order_seq_cst,
						     memory_order_acquire)) {
		meet_unfinished(end, read);
		return -1;
	}
	end->pending.read = -1;
	memcpy(&length, place(end, read) + 4, sizeof(length));
	if (length < 0 || (size_t)length > capacity)
		return -2;
	right = before_the_end(end, read + 8, (size_t)length);
	memcpy(buffer, place(end, read + 8), right);
	memcpy(buffer + right, place(end, 0), (size_t)length - right);
	whole = ((size_t)length + 15) & ~(size_t)7;
	right = before_the_end(end, read, whole);
	memset(place(end, read), UNFINISHED, right);
	memset(place(end, 0), UNFINISHED, whole - right);
	atomic_exchange(&shared->read, read + (int64_t)whole);
	return length;
}

static ssize_t try_receive(struct endpoint *end, char *buffer, size_t capacity)
{
	struct shared *shared = end->shared;
	int64_t unowned = 0, mine = end->id;
	ssize_t got;

	if (atomic_load_explicit(&shared->reader, memory_order_acquire)) {
		suspect(end);
		return -1;
	}
	if (is_empty(shared) || !atomic_compare_exchange_strong_explicit(&shared->reader, &unowned, mine,
									 memory_order_seq_cst, memory_order_acquire))
		return -1;
	got = read_next(end, buffer, capacity);
	atomic_compare_exchange_strong_explicit(&shared->reader, &mine, 0, memory_order_seq_cst, memory_order_acquire);
	return got;
}

static int get(void *it, void *buffer, size_t size)
{
	ssize_t got;

	for (int tries = 1; (got = try_receive(it, buffer, size)) == -1; tries++)
		rest_after(tries);
	return got != (ssize_t)size;
}

static int get_many(void *it, char *buffer, size_t size, int max)
{
	int got = 0;

	while (got < max && try_receive(it, buffer + (size_t)got * size, size) == (ssize_t)size)
		got++;
	return got || get(it, buffer, size) == 0 ? (got ? got : 1) : -1;
}

/* Sleeps for a slice or until a permit is posted. */
static bool got_permit(struct shared *shared)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += SLICE_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	return sem_timedwait(&shared->signal, &until) == 0;
}

static int get_asleep(void *it, void *buffer, size_t size)
{
	struct endpoint *end = it;
	bool relay = false;
	ssize_t got;

	while ((got = try_receive(end, buffer, size)) == -1)
		if (got_permit(end->shared)) {
			atomic_exchange(&end->shared->notification, 0);
			relay = true;
		}
	if (relay && !is_empty(end->shared))
		notify(end->shared);
	return got != (ssize_t)size;
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct rival CLOUDTOID = {.name = "cloudtoid's algorithm",
				       .make = make,
				       .join = enroll,
				       .unmake = unmake,
				       .put = put,
				       .get = get,
				       .put_many = put_many,
				       .get_many = get_many};
static const struct rival CLOUDTOID_ASLEEP = {.name = "cloudtoid's algorithm, asleep",
					      .make = make,
					      .join = enroll,
					      .unmake = unmake,
					      .put = put,
					      .get = get_asleep};

WORK(CLOUDTOID, CLOUDTOID)
WORK(CLOUDTOID_ASLEEP, CLOUDTOID_ASLEEP)
