/*
 * Measures the cost of a message in a full queue, in one process: each round puts a message of 64 bytes and gets the
 * oldest one. The content is QUEUE_GIB GiB (default 1), but at most a quarter of the free memory.
 */

#include "queue.h"

#include <unistd.h>

enum { LEVELS = 4, QUEUES = 2 * LEVELS };

/* The size of a record with its header, and a reserve. */
static const size_t RECORD = 72, SPARE = 1 << 20;

static const struct {
	const char *ours, *ring;
	size_t bytes;
} LEVEL[LEVELS] = {{"shmkit, 1 message", "ring, 1 message", SMALL},
		   {"shmkit, 1 MiB", "ring, 1 MiB", 1 << 20},
		   {"shmkit, 64 MiB", "ring, 64 MiB", 64 << 20},
		   {"shmkit, full", "ring, full", 0}};

static struct filled {
	const struct work *work;
	void *queue;
	size_t messages;
} filled[QUEUES];

static size_t max_content(void)
{
	const char *wanted = getenv("QUEUE_GIB");
	size_t max = (size_t)sysconf(_SC_AVPHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE) / 4;
	size_t bytes = (wanted ? strtoul(wanted, NULL, 10) : 1) << 30;

	return bytes < max ? bytes : max;
}

static int64_t exchange(const struct filled *it, long rounds)
{
	int64_t begin = now();
	uint64_t sum = 0;

	for (long i = 0; i < rounds; i++)
		if (it->work->produce(it->queue, 0, 1) || it->work->consume(it->queue, 1, &sum))
			return -1;
	return now() - begin;
}

TURN_BY(turn_0, exchange(&filled[0], rounds))
TURN_BY(turn_1, exchange(&filled[1], rounds))
TURN_BY(turn_2, exchange(&filled[2], rounds))
TURN_BY(turn_3, exchange(&filled[3], rounds))
TURN_BY(turn_4, exchange(&filled[4], rounds))
TURN_BY(turn_5, exchange(&filled[5], rounds))
TURN_BY(turn_6, exchange(&filled[6], rounds))
TURN_BY(turn_7, exchange(&filled[7], rounds))

static turn_function *const TURNS[QUEUES] = {turn_0, turn_1, turn_2, turn_3, turn_4, turn_5, turn_6, turn_7};

static int fill(struct filled *it, const struct work *work, size_t bytes)
{
	const char *why = "";

	it->work = work;
	it->messages = bytes / SMALL;
	it->queue = work->rival->make(SMALL, it->messages * RECORD + SPARE, &why);
	if (!it->queue) {
		complain(work->rival->name, why);
		return -1;
	}
	return work->produce(it->queue, 0, (long)it->messages);
}

static void empty(struct filled *it)
{
	if (it->queue)
		it->work->rival->unmake(it->queue);
	it->queue = NULL;
}

/* Empties our queue, passes more messages through it, and prints the share of its memory that remains. */
static int drain(const struct filled *it)
{
	static const long more = 1000000;
	int64_t full = memory_of_ours(it->queue), left;
	uint64_t sum = 0;

	if (it->work->consume(it->queue, (long)it->messages, &sum) || exchange(it, more) < 0 || full <= 0 ||
	    (left = memory_of_ours(it->queue)) < 0) {
		complain(it->work->rival->name, "cannot empty it or read its memory use");
		return -1;
	}
	print_figure("queue content, left", it->work->rival->name, (double)left / (double)full);
	return 0;
}

int bench_content(int pairs)
{
	struct contender them[QUEUES];
	int failed = 0;

	message_size = SMALL;
	for (int i = 0; i < LEVELS && !failed; i++) {
		size_t bytes = LEVEL[i].bytes ? LEVEL[i].bytes : max_content();
		int ours = 2 * i, ring = 2 * i + 1;

		them[ours] = (struct contender){LEVEL[i].ours, TURNS[ours]};
		them[ring] = (struct contender){LEVEL[i].ring, TURNS[ring]};
		failed = fill(&filled[ours], &OURS_UNBOUNDED_WORK, bytes) || fill(&filled[ring], &RING_WORK, bytes);
	}
	if (!failed)
		failed = measure("queue content", them, QUEUES, pairs, 0);
	if (!failed)
		failed = drain(&filled[2 * (LEVELS - 1)]);
	for (int i = 0; i < QUEUES; i++)
		empty(&filled[i]);
	return failed;
}
