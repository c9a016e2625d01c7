/*
 * The limits of hardware and kernel for one producer and one consumer: rings without recovery from dead processes.
 *
 *   record  | u64 length, or PAD: the rest of the lap is empty | bytes | padding to a multiple of 8 |
 *
 * Positions have 64 bits and never wrap. Each side caches the last position that it read of the other side.
 */

#include "queue.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAD UINT64_MAX

struct ring {
	_Alignas(64) _Atomic uint64_t tail;
	/* Used only by the producer. */
	_Alignas(64) uint64_t written;
	uint64_t head_seen;
	_Alignas(64) _Atomic uint64_t head;
	/* Used only by the consumer. */
	_Alignas(64) uint64_t taken;
	uint64_t tail_seen;
	_Alignas(64) uint64_t capacity;
	_Alignas(4096) char data[];
};

static void *make_ring(size_t size, size_t room, const char **why)
{
	uint64_t capacity = 4096;
	struct ring *ring;

	(void)size;
	while (capacity < room)
		capacity *= 2;
	ring = shared_memory(sizeof(*ring) + capacity, MAP_POPULATE);
	if (ring)
		ring->capacity = capacity;
	else
		*why = strerror(errno);
	return ring;
}

static void unmake_ring(void *it)
{
	struct ring *ring = it;

	munmap(ring, sizeof(*ring) + ring->capacity);
}

static inline uint64_t *length_at(struct ring *ring, uint64_t position)
{
	return (uint64_t *)(void *)(ring->data + (position & (ring->capacity - 1)));
}

static inline uint64_t record_of(size_t size)
{
	return sizeof(uint64_t) + ((size + 7) & ~(uint64_t)7);
}

/* --- the ring that spins ----------------------------------------------------------------------------------------- */

/* Writes a message without publishing it; returns 0 if there is no room. */
static inline int write_record(struct ring *ring, const void *data, size_t size)
{
	uint64_t need = record_of(size), left = ring->capacity - (ring->written & (ring->capacity - 1));
	uint64_t skip = left < need ? left : 0;

	if (ring->written + skip + need - ring->head_seen > ring->capacity) {
		ring->head_seen = atomic_load_explicit(&ring->head, memory_order_acquire);
		if (ring->written + skip + need - ring->head_seen > ring->capacity)
			return 0;
	}
	if (skip)
		*length_at(ring, ring->written) = PAD;
	*length_at(ring, ring->written + skip) = size;
	memcpy(length_at(ring, ring->written + skip) + 1, data, size);
	ring->written += skip + need;
	return 1;
}

static inline void publish(struct ring *ring)
{
	atomic_store_explicit(&ring->tail, ring->written, memory_order_release);
}

static inline void free_space(struct ring *ring)
{
	atomic_store_explicit(&ring->head, ring->taken, memory_order_release);
}

/* Returns the next message, or NULL if there is none. */
static inline uint64_t *next_record(struct ring *ring)
{
	uint64_t *length;

	if (ring->taken == ring->tail_seen) {
		ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
		if (ring->taken == ring->tail_seen)
			return NULL;
	}
	length = length_at(ring, ring->taken);
	if (*length == PAD) {
		ring->taken += ring->capacity - (ring->taken & (ring->capacity - 1));
		length = length_at(ring, ring->taken);
	}
	return length;
}

static inline int put_ring(void *it, const void *data, size_t size)
{
	struct ring *ring = it;

	while (!write_record(ring, data, size))
		;
	publish(ring);
	return 0;
}

static inline int get_ring(void *it, void *buffer, size_t size)
{
	struct ring *ring = it;
	uint64_t *length, found;

	while (!(length = next_record(ring)))
		;
	found = *length;
	if (found > size)
		return -1;
	memcpy(buffer, length + 1, found);
	ring->taken += record_of(found);
	free_space(ring);
	return found != size;
}

static inline int add_up_ring(void *it, void *buffer, size_t size, uint64_t *sum)
{
	int failed = get_ring(it, buffer, size);

	*sum += sum_of(buffer, size);
	return failed;
}

static inline int put_each(void *it, const char *data, size_t size, int count)
{
	for (int i = 0; i < count; i++)
		put_ring(it, data + (size_t)i * size, size);
	return 0;
}

static inline int get_each(void *it, char *buffer, size_t size, int max)
{
	for (int i = 0; i < max; i++)
		if (get_ring(it, buffer + (size_t)i * size, size))
			return -1;
	return max;
}

static const struct rival RING = {.name = "ring",
				  .make = make_ring,
				  .unmake = unmake_ring,
				  .put = put_ring,
				  .get = get_ring,
				  .put_many = put_each,
				  .get_many = get_each,
				  .add_up = add_up_ring};

/* Reads the position of the other side and publishes its own, once for each batch. */
static inline int put_many_ring(void *it, const char *data, size_t size, int count)
{
	struct ring *ring = it;

	for (int i = 0; i < count; i++)
		while (!write_record(ring, data + (size_t)i * size, size))
			publish(ring);
	publish(ring);
	return 0;
}

static inline int get_many_ring(void *it, char *buffer, size_t size, int max)
{
	struct ring *ring = it;
	uint64_t *length;
	int got = 0;

	while (!(length = next_record(ring)))
		;
	do {
		if (*length != size)
			return -1;
		memcpy(buffer + (size_t)got * size, length + 1, size);
		ring->taken += record_of(size);
	} while (++got < max && (length = next_record(ring)));
	free_space(ring);
	return got;
}

static const struct rival RING_IN_BATCHES = {.name = "ring, batches",
					     .make = make_ring,
					     .unmake = unmake_ring,
					     .put = put_ring,
					     .get = get_ring,
					     .put_many = put_many_ring,
					     .get_many = get_many_ring};

static inline int add_up_in_place(void *it, void *buffer, size_t size, uint64_t *sum)
{
	struct ring *ring = it;
	uint64_t *length;

	(void)buffer;
	while (!(length = next_record(ring)))
		;
	if (*length != size)
		return -1;
	*sum += sum_of(length + 1, size);
	ring->taken += record_of(size);
	free_space(ring);
	return 0;
}

static const struct rival RING_IN_PLACE = {.name = "ring, in place",
					   .make = make_ring,
					   .unmake = unmake_ring,
					   .put = put_ring,
					   .get = get_ring,
					   .add_up = add_up_in_place};

/* --- the ring that sleeps at once, and always wakes -------------------------------------------------------------- */

static long futex(_Atomic uint64_t *word, int what, uint32_t value, const struct timespec *slice)
{
	/* The futex is the low half of the word, which comes first (little endian). */
	return syscall(SYS_futex, word, what, value, slice, NULL, 0);
}

static inline int put_futex(void *it, const void *data, size_t size)
{
	struct ring *ring = it;

	/* Messages go there and back, so the ring is never full. */
	if (!write_record(ring, data, size))
		return -1;
	publish(ring);
	return futex(&ring->tail, FUTEX_WAKE, 1, NULL) < 0;
}

static inline int sleep_and_get(struct ring *ring, void *buffer, size_t size, const struct timespec *slice)
{
	for (uint64_t seen; (seen = atomic_load_explicit(&ring->tail, memory_order_acquire)) == ring->taken;)
		futex(&ring->tail, FUTEX_WAIT, (uint32_t)seen, slice);
	return get_ring(ring, buffer, size);
}

static inline int get_futex(void *it, void *buffer, size_t size)
{
	return sleep_and_get(it, buffer, size, NULL);
}

/* Sleeps with a deadline and then checks again, as shmkit does in case a wake was lost. */
static inline int get_futex_with_deadline(void *it, void *buffer, size_t size)
{
	static const struct timespec slice = {.tv_nsec = 1000000};

	return sleep_and_get(it, buffer, size, &slice);
}

static const struct rival FUTEX_RING = {
	.name = "futex ring", .make = make_ring, .unmake = unmake_ring, .put = put_futex, .get = get_futex};
static const struct rival FUTEX_RING_WITH_DEADLINE = {.name = "futex ring, deadline",
						      .make = make_ring,
						      .unmake = unmake_ring,
						      .put = put_futex,
						      .get = get_futex_with_deadline};

/* --- a copy ------------------------------------------------------------------------------------------------------ */

/* No queue: the consumer copies constant bytes. This is one copy; a queue makes two, which run in parallel. */
static void *make_copy(size_t size, size_t room, const char **why)
{
	char *made = shared_memory(size, MAP_POPULATE);

	(void)room;
	if (made)
		memset(made, 1, size);
	else
		*why = strerror(errno);
	return made;
}

static void unmake_copy(void *it)
{
	munmap(it, message_size);
}

static inline int put_nothing(void *it, const void *data, size_t size)
{
	(void)it, (void)data, (void)size;
	return 0;
}

static inline int get_copy(void *it, void *buffer, size_t size)
{
	memcpy(buffer, it, size);
	return 0;
}

static const struct rival COPY = {
	.name = "memcpy", .make = make_copy, .unmake = unmake_copy, .put = put_nothing, .get = get_copy};

/* ----------------------------------------------------------------------------------------------------------------- */

WORK(RING, RING)
WORK(RING_IN_BATCHES, RING_IN_BATCHES)
WORK(RING_IN_PLACE, RING_IN_PLACE)
WORK(FUTEX_RING, FUTEX_RING)
WORK(FUTEX_RING_WITH_DEADLINE, FUTEX_RING_WITH_DEADLINE)
WORK(COPY, COPY)
