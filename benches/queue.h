/*
 * What the benches of queues share: what a rival is, what is done with it, and the processes that do it.
 *
 *   queue.c            the benches
 *   queue_content.c    much content: what a message costs then, and whether the memory comes back
 *   queue_crew.c       the processes
 *   queue_ours.c       our queue
 *   queue_limits.c     what the hardware and the kernel allow: a ring that spins, one that sleeps, a copy
 *   queue_rivals.c     Boost.Interprocess (boost.cpp), POSIX message queues, pipes
 *   queue_cloudtoid.c  cloudtoid's algorithm
 *
 * A rival's calls are inlined into the loops below where its file shows them: the limits pay for no call. The others
 * are libraries, and cost a call as they do elsewhere.
 */

#ifndef QUEUE_H
#define QUEUE_H

#include "pairs.h"

#include <stdatomic.h>

enum { SMALL = 64, LARGE = 1 << 20, BATCH = 64, HELPERS = 32 };

/* How many bytes of messages fit into the queues: few enough to stay warm, and enough for four large ones. */
static const size_t ROOM_FOR_SMALL = 64 << 10;
static const size_t ROOM_FOR_LARGE = 4 << 20;

/* A kind of queue. Calls return nonzero where they fail; a message that has another size than `size` is a failure. */
struct rival {
	const char *name;
	/* So many use it where many would; 0: all. */
	int helpers;
	/* Makes one that forked children share, with room for about so many bytes of messages; NULL says why not. */
	void *(*make)(size_t size, size_t room, const char **why);
	/* Is called in each process before it uses one; may be NULL. */
	int (*join)(void *it);
	void (*unmake)(void *it);
	/* Both wait. */
	int (*put)(void *it, const void *data, size_t size);
	int (*get)(void *it, void *buffer, size_t size);
	/* Messages that lie one after the other, all of the same size. get_many returns how many it got, or -1. */
	int (*put_many)(void *it, const char *data, size_t size, int count);
	int (*get_many)(void *it, char *buffer, size_t size, int most);
	/* Gets one and adds up its words: in place, or in a copy. */
	int (*add_up)(void *it, void *buffer, size_t size, uint64_t *sum);
};

/* What is done with a rival, made of its calls. */
struct work {
	const struct rival *rival;
	/* Puts messages that bear the numbers from `first` on; gets so many, and adds their numbers to `sum`. */
	int (*produce)(void *it, long first, long count);
	int (*consume)(void *it, long count, uint64_t *sum);
	int (*produce_many)(void *it, long first, long count);
	int (*consume_many)(void *it, long count, uint64_t *sum);
	int (*add_up)(void *it, long count, uint64_t *sum);
	/* Waits for `pause` ns before it puts, if that is not 0; `took` is then from before each put to after its get. */
	int (*ask)(void *there, void *back, long rounds, int64_t pause, int64_t *took);
	int (*answer)(void *there, void *back, long rounds, int64_t pause, int64_t *took);
};

extern const struct work OURS_WORK, OURS_UNBOUNDED_WORK, OURS_LEASED_WORK, OURS_OF_FOUR_WORK;
extern const struct work RING_WORK, RING_IN_BATCHES_WORK, RING_IN_PLACE_WORK, FUTEX_RING_WORK,
	FUTEX_RING_WITH_DEADLINE_WORK, COPY_WORK;
extern const struct work BOOST_WORK, MQ_WORK, PIPE_WORK, CLOUDTOID_WORK, CLOUDTOID_ASLEEP_WORK;

/* How large messages are in this bench, and what is put and got: BATCH small ones or a large one. */
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

LOOP produce(const struct rival *who, void *it, long first, long count)
{
	size_t size = message_size;

	for (long i = first; i < first + count; i++) {
		*(volatile long *)(void *)source = i;
		if (who->put(it, source, size))
			return -1;
	}
	return 0;
}

LOOP consume(const struct rival *who, void *it, long count, uint64_t *sum)
{
	size_t size = message_size;

	for (long i = 0; i < count; i++) {
		if (who->get(it, target, size))
			return -1;
		*sum += *(volatile uint64_t *)(void *)target;
	}
	return 0;
}

LOOP produce_many(const struct rival *who, void *it, long first, long count)
{
	size_t size = message_size;

	for (long done = 0; done < count;) {
		int most = count - done < BATCH ? (int)(count - done) : BATCH;

		for (int k = 0; k < most; k++)
			*(volatile long *)(void *)(source + (size_t)k * size) = first + done + k;
		if (who->put_many(it, source, size, most))
			return -1;
		done += most;
	}
	return 0;
}

LOOP consume_many(const struct rival *who, void *it, long count, uint64_t *sum)
{
	size_t size = message_size;

	for (long done = 0; done < count;) {
		int most = count - done < BATCH ? (int)(count - done) : BATCH;
		int got = who->get_many(it, target, size, most);

		if (got < 0)
			return -1;
		for (int k = 0; k < got; k++)
			*sum += *(volatile uint64_t *)(void *)(target + (size_t)k * size);
		done += got;
	}
	return 0;
}

LOOP add_up(const struct rival *who, void *it, long count, uint64_t *sum)
{
	for (long i = 0; i < count; i++)
		if (who->add_up(it, target, message_size, sum))
			return -1;
	return 0;
}

LOOP post(const struct rival *who, void *it, int64_t pause)
{
	if (pause) {
		for (int64_t begin = now(); now() - begin < pause;)
			;
		*(volatile int64_t *)(void *)source = now();
	}
	return who->put(it, source, message_size);
}

LOOP await(const struct rival *who, void *it, int64_t pause, int64_t *took)
{
	int failed = who->get(it, target, message_size);

	if (pause)
		*took += now() - *(volatile int64_t *)(void *)target;
	return failed;
}

/* Makes the work of a rival; it sees the rival's calls. */
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

/* What the processes of a contender share. */
struct crew {
	/* A turn has a number: it is called, its helpers are there, it begins, so many have done their part. */
	_Alignas(64) atomic_uint called, there, begun, done;
	long rounds;
	/* Producers without a number of messages stop. */
	_Alignas(64) atomic_int stop;
	/* How many have been put and got, in benches that need it. */
	_Alignas(64) atomic_long put;
	_Alignas(64) atomic_long got;
	/* What each helper reports of its turn. */
	struct {
		_Alignas(64) uint64_t sum;
		volatile long count;
		int64_t took;
		long faults;
	} each[HELPERS];
};

/* A contender: a rival, the processes that use it, and what they do in a turn. */
struct stage {
	const struct work *work;
	/* Two where messages come back. */
	void *queues[2];
	int helpers;
	/* What a helper does, and what this process does meanwhile. */
	int (*help)(const struct stage *stage, int which);
	int (*act)(const struct stage *stage);
	/* How many ns a round took when there was one. */
	int64_t round;
	struct crew *crew;
	pid_t pids[HELPERS];
};

/* Must be called first; returns 0. */
int prepare_crews(void);

/* Forks the helpers of a stage whose queues are made. They are killed when this process ends, however it ends. */
int start_crew(struct stage *stage);
void finish_crew(struct stage *stage);

/*
 * Takes a turn: returns the ns until this process has done its part, or until all helpers have if there are many; -1
 * where this process failed. A helper that fails ends the program.
 */
int64_t take_turn(const struct stage *stage, long rounds);

/* The name that this run may give to something in /dev/shm, for as long as it takes to remove it. */
const char *own_name(void);

/* How much memory our queue has, in bytes; -1 if that is not known. */
int64_t memory_of_ours(void *queue);

int bench_content(int pairs);

#endif
