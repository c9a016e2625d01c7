/*
 * Shared by the benches of queues: the interface of a rival, the loops that use it, and the helper processes.
 *
 *   queue.c            the benches
 *   queue_content.c    full queues: the cost of a message, and whether the memory is freed
 *   queue_crew.c       the helper processes
 *   queue_ours.c       the queue of shmkit
 *   queue_limits.c     the limits of hardware and kernel: a ring that spins, a ring that sleeps, a copy
 *   queue_rivals.c     Boost.Interprocess (boost.cpp), POSIX message queues, pipes
 *   queue_cloudtoid.c  cloudtoid's algorithm
 *
 * The calls of a rival are inlined into the loops below if its file defines them, so the limits include no call. The
 * other rivals are libraries, which cost a call.
 */

#ifndef QUEUE_H
#define QUEUE_H

#include "pairs.h"

#include <stdatomic.h>

enum { SMALL = 64, LARGE = 1 << 20, BATCH = 64, HELPERS = 32 };

/* The bytes of messages that fit into the queues: few enough to stay in the cache, enough for four large messages. */
static const size_t ROOM_FOR_SMALL = 64 << 10;
static const size_t ROOM_FOR_LARGE = 4 << 20;

/* A kind of queue. Calls return nonzero on failure; a message of another size than `size` is a failure. */
struct rival {
	const char *name;
	/* The number of helpers in the benches of many to many; 0: the number of the bench. */
	int helpers;
	/* Creates a queue that forked children share, for about `room` bytes of messages; on NULL, `why` is the reason. */
	void *(*make)(size_t size, size_t room, const char **why);
	/* Called in each process before its first use of a queue; may be NULL. */
	int (*join)(void *it);
	void (*unmake)(void *it);
	/* Both block. */
	int (*put)(void *it, const void *data, size_t size);
	int (*get)(void *it, void *buffer, size_t size);
	/* Adjacent messages of the same size. get_many returns the number of messages, or -1. */
	int (*put_many)(void *it, const char *data, size_t size, int count);
	int (*get_many)(void *it, char *buffer, size_t size, int max);
	/* Gets a message and adds up its words, in place or in a copy. */
	int (*add_up)(void *it, void *buffer, size_t size, uint64_t *sum);
};

/* The loops over the calls of a rival. */
struct work {
	const struct rival *rival;
	/* Puts messages numbered from `first`; gets `count` messages and adds their numbers to `sum`. */
	int (*produce)(void *it, long first, long count);
	int (*consume)(void *it, long count, uint64_t *sum);
	int (*produce_many)(void *it, long first, long count);
	int (*consume_many)(void *it, long count, uint64_t *sum);
	int (*add_up)(void *it, long count, uint64_t *sum);
	/* With a pause, waits `pause` ns before each put; `took` then adds up the ns from before a put to after its get. */
	int (*ask)(void *there, void *back, long rounds, int64_t pause, int64_t *took);
	int (*answer)(void *there, void *back, long rounds, int64_t pause, int64_t *took);
};

extern const struct work OURS_WORK, OURS_UNBOUNDED_WORK, OURS_LEASED_WORK, OURS_OF_FOUR_WORK;
extern const struct work RING_WORK, RING_IN_BATCHES_WORK, RING_IN_PLACE_WORK, FUTEX_RING_WORK,
	FUTEX_RING_WITH_DEADLINE_WORK, COPY_WORK;
extern const struct work BOOST_WORK, MQ_WORK, PIPE_WORK, CLOUDTOID_WORK, CLOUDTOID_ASLEEP_WORK;

/* The size of messages in this bench, and their buffers: BATCH small messages or a large one. */
extern size_t message_size;
extern char source[], target[];

static inline uint64_t sum_of(const void *data, size_t size)
{
	const uint64_t *words = data;
	uint64_t sums[4] = {0};

	for (size_t i = 0; i < size / sizeof(*words); i += 4)
		for (int k = 0; k < 4; k++)
			sums[k] += words[i + k];
	return sums[0] + sums[1] + sums[2] + sums[3];
}

/* --- the loops --------------------------------------------------------------------------------------------------- */

#define LOOP static inline __attribute__((always_inline)) int

LOOP produce(const struct rival *rival, void *it, long first, long count)
{
	size_t size = message_size;

	for (long i = first; i < first + count; i++) {
		*(volatile long *)(void *)source = i;
		if (rival->put(it, source, size))
			return -1;
	}
	return 0;
}

LOOP consume(const struct rival *rival, void *it, long count, uint64_t *sum)
{
	size_t size = message_size;

	for (long i = 0; i < count; i++) {
		if (rival->get(it, target, size))
			return -1;
		*sum += *(volatile uint64_t *)(void *)target;
	}
	return 0;
}

LOOP produce_many(const struct rival *rival, void *it, long first, long count)
{
	size_t size = message_size;

	for (long done = 0; done < count;) {
		int max = count - done < BATCH ? (int)(count - done) : BATCH;

		for (int k = 0; k < max; k++)
			*(volatile long *)(void *)(source + (size_t)k * size) = first + done + k;
		if (rival->put_many(it, source, size, max))
			return -1;
		done += max;
	}
	return 0;
}

LOOP consume_many(const struct rival *rival, void *it, long count, uint64_t *sum)
{
	size_t size = message_size;

	for (long done = 0; done < count;) {
		int max = count - done < BATCH ? (int)(count - done) : BATCH;
		int got = rival->get_many(it, target, size, max);

		if (got < 0)
			return -1;
		for (int k = 0; k < got; k++)
			*sum += *(volatile uint64_t *)(void *)(target + (size_t)k * size);
		done += got;
	}
	return 0;
}

LOOP add_up(const struct rival *rival, void *it, long count, uint64_t *sum)
{
	for (long i = 0; i < count; i++)
		if (rival->add_up(it, target, message_size, sum))
			return -1;
	return 0;
}

LOOP post(const struct rival *rival, void *it, int64_t pause)
{
	if (pause) {
		for (int64_t begin = now(); now() - begin < pause;)
			;
		*(volatile int64_t *)(void *)source = now();
	}
	return rival->put(it, source, message_size);
}

LOOP await(const struct rival *rival, void *it, int64_t pause, int64_t *took)
{
	int failed = rival->get(it, target, message_size);

	if (pause)
		*took += now() - *(volatile int64_t *)(void *)target;
	return failed;
}

/* Defines the loops of a rival, into which the compiler inlines the rival's calls. */
#define WORK(NAME, RIVAL)                                                                                              \
	static int NAME##_produce(void *it, long first, long count)                                                        \
	{                                                                                                                  \
		return produce(&RIVAL, it, first, count);                                                                      \
	}                                                                                                                  \
	static int NAME##_consume(void *it, long count, uint64_t *sum)                                                     \
	{                                                                                                                  \
		return consume(&RIVAL, it, count, sum);                                                                        \
	}                                                                                                                  \
	static int NAME##_produce_many(void *it, long first, long count)                                                   \
	{                                                                                                                  \
		return produce_many(&RIVAL, it, first, count);                                                                 \
	}                                                                                                                  \
	static int NAME##_consume_many(void *it, long count, uint64_t *sum)                                                \
	{                                                                                                                  \
		return consume_many(&RIVAL, it, count, sum);                                                                   \
	}                                                                                                                  \
	static int NAME##_add_up(void *it, long count, uint64_t *sum)                                                      \
	{                                                                                                                  \
		return add_up(&RIVAL, it, count, sum);                                                                         \
	}                                                                                                                  \
	static int NAME##_ask(void *there, void *back, long rounds, int64_t pause, int64_t *took)                          \
	{                                                                                                                  \
		for (long i = 0; i < rounds; i++)                                                                              \
			if (post(&RIVAL, there, pause) || await(&RIVAL, back, pause, took))                                          \
				return -1;                                                                                             \
		return 0;                                                                                                      \
	}                                                                                                                  \
	static int NAME##_answer(void *there, void *back, long rounds, int64_t pause, int64_t *took)                       \
	{                                                                                                                  \
		for (long i = 0; i < rounds; i++)                                                                              \
			if (await(&RIVAL, there, pause, took) || post(&RIVAL, back, pause))                                          \
				return -1;                                                                                             \
		return 0;                                                                                                      \
	}                                                                                                                  \
	const struct work NAME##_WORK = {&RIVAL,                                                                           \
					 NAME##_produce,                                                                                   \
					 NAME##_consume,                                                                                   \
					 NAME##_produce_many,                                                                              \
					 NAME##_consume_many,                                                                              \
					 NAME##_add_up,                                                                                    \
					 NAME##_ask,                                                                                       \
					 NAME##_answer};

/* --- queue_crew.c ------------------------------------------------------------------------------------------------ */

/* State that the processes of a contender share. */
struct turn_state {
	/* The called turn; the number of ready helpers; the begun turn; the number of helpers that are done. */
	_Alignas(64) atomic_uint called, there, begun, done;
	long rounds;
	/* Set when producers without a fixed number of messages must stop. */
	_Alignas(64) atomic_int stop;
	/* The numbers of messages put and got, in benches that need them. */
	_Alignas(64) atomic_long put;
	_Alignas(64) atomic_long got;
	/* The report of each helper. */
	struct {
		_Alignas(64) uint64_t sum;
		volatile long count;
		int64_t took;
		long faults;
	} each[HELPERS];
};

/* A contender: a rival, the processes that use it, and their functions in a turn. */
struct stage {
	const struct work *work;
	/* Two if messages go both ways. */
	void *queues[2];
	int helpers;
	/* The part of a helper, and the part of this process. */
	int (*help)(const struct stage *stage, int which);
	int (*act)(const struct stage *stage);
	/* The ns of a round in the last turn, or 0. */
	int64_t round;
	struct turn_state *state;
	pid_t pids[HELPERS];
};

/* Must be called before all others; returns 0. */
int prepare_helpers(void);

/* Forks the helpers of a stage whose queues exist. The kernel kills them when this process ends. */
int start_helpers(struct stage *stage);
void finish_helpers(struct stage *stage);

/*
 * Runs a turn. With one helper, returns the ns until this process has done its part; with more, the ns until all
 * helpers are done. Returns -1 if this process failed. A helper that fails ends the program.
 */
int64_t take_turn(const struct stage *stage, long rounds);

/* Returns the name that this run gives to an object in /dev/shm until it removes the name. */
const char *own_name(void);

/* Returns the memory of our queue in bytes, or -1 on failure. */
int64_t memory_of_ours(void *queue);

int bench_content(int pairs);

#endif
