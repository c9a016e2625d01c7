/*
 * Locks under contention of several processes: their throughput, their fairness, and the time of a hand-over.
 *
 * The helpers are forked once and sleep between turns, so that all contenders use the same helpers:
 *
 *   | epoch     | means                                   | next                          |
 *   |-----------|-----------------------------------------|-------------------------------|
 *   | even      | all sleep                               | odd: this process starts them |
 *   | odd       | `taking` of them work                   | even: this process stops them |
 *
 * This process sleeps while they work. Each of two helpers is bound to a processor, so that the scheduler does not
 * influence the result.
 */

#include "lock.h"

#include <linux/futex.h>
#include <sys/syscall.h>

enum { MAX_HELPERS = 64, HANDOFFS = 2000 };

/* How long helpers work in a turn, in ns. Many helpers need long enough for each to get a processor. */
static const int64_t WORK_OF_TWO = 20000000;
static const int64_t WORK_OF_MANY = 500000000;
/* The time of a turn is scaled to this number of rounds. */
static const long SCALED_ROUNDS = 1000000;
/* How long the owner waits before it hands over, in ns, so that the other process spins or sleeps. */
static const int64_t SPINNING = 1000;
static const int64_t ASLEEP = 300000;

struct rival {
	const char *name;
	int (*acquire)(void);
	int (*release)(void);
};

/* State that the helpers share. Each helper writes to a cache line of its own while it works. */
struct ring {
	atomic_uint epoch;
	atomic_int rival, taking, working, done, failed;
	_Alignas(64) atomic_int stop;
	/* Guarded by the lock that is measured. */
	_Alignas(64) volatile uint64_t total;
	volatile uint64_t changes;
	volatile int last;
	/* Also guarded by the lock, in hand-overs: the time when the last owner began to release it. */
	_Alignas(64) volatile int64_t released;
	int64_t took[HANDOFFS];
	/* How often each of the two began to acquire the lock, and acquired it. */
	_Alignas(64) atomic_int wanted[2];
	_Alignas(64) atomic_int had[2];
	/* Set before a turn: the number of hand-overs, and how long each owner waits. */
	_Alignas(64) int handoffs;
	int64_t pause;
	int64_t begin;
	struct {
		_Alignas(64) volatile uint64_t count;
	} each[MAX_HELPERS];
};

static struct ring *ring;

static long futex(atomic_uint *word, int what, unsigned value)
{
	return syscall(SYS_futex, word, what, value, NULL, NULL, 0);
}

/* --- the rivals -------------------------------------------------------------------------------------------------- */

static int acquire_ours(void)
{
	return shmkit_lock_acquire(lock, SHMKIT_FOREVER, 0, NULL);
}

static int release_ours(void)
{
	return shmkit_lock_release(lock);
}

static int acquire_normal(void)
{
	return pthread_mutex_lock(&peers->normal);
}

static int release_normal(void)
{
	return pthread_mutex_unlock(&peers->normal);
}

static int acquire_robust(void)
{
	return pthread_mutex_lock(&peers->robust);
}

static int release_robust(void)
{
	return pthread_mutex_unlock(&peers->robust);
}

static int acquire_semaphore(void)
{
	return sem_wait(&peers->semaphore);
}

static int release_semaphore(void)
{
	return sem_post(&peers->semaphore);
}

static int acquire_boost(void)
{
	return boost_acquire(peers->boost);
}

static int release_boost(void)
{
	return boost_release(peers->boost);
}

/* A word as a lock that only spins, and as a lock that only sleeps: the limits of the hardware and the kernel. */
static int acquire_flag(void)
{
	while (__atomic_exchange_n(&peers->word, 1, __ATOMIC_ACQUIRE))
		while (__atomic_load_n(&peers->word, __ATOMIC_RELAXED))
			;
	return 0;
}

static int release_flag(void)
{
	__atomic_store_n(&peers->word, 0, __ATOMIC_RELEASE);
	return 0;
}

static int acquire_futex(void)
{
	while (__atomic_exchange_n(&peers->word, 1, __ATOMIC_ACQUIRE))
		futex((atomic_uint *)(void *)&peers->word, FUTEX_WAIT, 1);
	return 0;
}

/* Sleeps with a deadline and then checks the word again, as shmkit does. */
static int acquire_futex_for(void)
{
	struct timespec slice = {.tv_nsec = 1000000};

	while (__atomic_exchange_n(&peers->word, 1, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, &peers->word, FUTEX_WAIT, 1, &slice, NULL, 0);
	return 0;
}

static int release_futex(void)
{
	__atomic_store_n(&peers->word, 0, __ATOMIC_RELEASE);
	futex((atomic_uint *)(void *)&peers->word, FUTEX_WAKE, 1);
	return 0;
}

enum { OURS, NORMAL, ROBUST, SEMAPHORE, BOOST, FLAG, FUTEX, FUTEX_FOR };

static const struct rival RIVALS[] = {[OURS] = {"shmkit", acquire_ours, release_ours},
				      [NORMAL] = {"pthread", acquire_normal, release_normal},
				      [ROBUST] = {"pthread robust", acquire_robust, release_robust},
				      [SEMAPHORE] = {"sem_t", acquire_semaphore, release_semaphore},
				      [BOOST] = {"Boost", acquire_boost, release_boost},
				      [FLAG] = {"spins forever", acquire_flag, release_flag},
				      [FUTEX] = {"raw futex", acquire_futex, release_futex},
				      [FUTEX_FOR] = {"raw futex, deadline", acquire_futex_for, release_futex}};

/* --- the helpers ------------------------------------------------------------------------------------------------- */

static void contend(const struct rival *rival, int me)
{
	uint64_t count = 0;

	while (!atomic_load_explicit(&ring->stop, memory_order_relaxed)) {
		if (rival->acquire())
			atomic_store(&ring->failed, 1);
		ring->total++;
		if (ring->last != me) {
			ring->last = me;
			ring->changes++;
		}
		if (rival->release())
			atomic_store(&ring->failed, 1);
		count++;
	}
	ring->each[me].count = count;
}

/*
 * Two helpers acquire one lock in turn. The owner
 *   1. reads the clock: a hand-over lasts from just before the other helper's release to just after this acquire;
 *   2. waits until the other helper has announced its acquire, and `pause` longer, so that it spins or sleeps;
 *   3. reads the clock and releases;
 *   4. waits until the other helper owns the lock, so that it cannot acquire the lock twice in a row.
 */
static void alternate(const struct rival *rival, int me)
{
	int other = 1 - me, rounds = ring->handoffs / 2;

	/* Helper 0 acquires first. */
	while (me == 1 && atomic_load(&ring->had[other]) < 1)
		;
	for (int i = 0; i < rounds; i++) {
		int last = me == 1 && i == rounds - 1;
		int64_t until;

		atomic_store(&ring->wanted[me], i + 1);
		if (rival->acquire())
			atomic_store(&ring->failed, 1);
		until = now();
		ring->took[2 * i + me] = until - ring->released;
		atomic_store(&ring->had[me], i + 1);
		while (!last && atomic_load(&ring->wanted[other]) < i + 1 + me)
			;
		until = now() + ring->pause;
		while (!last && now() < until)
			;
		ring->released = now();
		if (rival->release())
			atomic_store(&ring->failed, 1);
		while (!last && atomic_load(&ring->had[other]) < i + 1 + me)
			;
	}
}

static void help(void *number)
{
	int me = (int)(intptr_t)number;

	for (unsigned seen = 0;;) {
		unsigned epoch;

		while ((epoch = atomic_load(&ring->epoch)) == seen || epoch % 2 == 0)
			futex(&ring->epoch, FUTEX_WAIT, epoch);
		seen = epoch;
		if (me >= atomic_load(&ring->taking))
			continue;
		if (atomic_load(&ring->taking) == 2)
			bind_to(me);
		else
			unbind();
		if (atomic_fetch_add(&ring->working, 1) + 1 == atomic_load(&ring->taking))
			ring->begin = now();
		while (atomic_load(&ring->working) < atomic_load(&ring->taking))
			sched_yield();
		if (ring->handoffs)
			alternate(&RIVALS[atomic_load(&ring->rival)], me);
		else
			contend(&RIVALS[atomic_load(&ring->rival)], me);
		atomic_fetch_add(&ring->done, 1);
	}
}

static pid_t helpers[MAX_HELPERS];

static void end_helpers(void)
{
	for (int i = 0; i < MAX_HELPERS; i++) {
		finish(helpers[i]);
		helpers[i] = 0;
	}
}

static int start_helpers(int count)
{
	ring = ring ? ring : shared_memory(sizeof(*ring), 0);
	if (!ring)
		return bad("mmap");
	for (int i = 0; i < count; i++) {
		helpers[i] = start(help, (void *)(intptr_t)i);
		if (helpers[i] < 0) {
			end_helpers();
			return -1;
		}
	}
	return 0;
}

/* Makes `taking` helpers use a rival for `work` ns, or until their hand-overs are done. */
static int run(int rival, int taking, int64_t work)
{
	atomic_store(&ring->rival, rival);
	atomic_store(&ring->taking, taking);
	atomic_store(&ring->working, 0);
	atomic_store(&ring->done, 0);
	atomic_store(&ring->stop, 0);
	ring->total = ring->changes = 0;
	for (int i = 0; i < 2; i++) {
		atomic_store(&ring->wanted[i], 0);
		atomic_store(&ring->had[i], 0);
	}
	atomic_fetch_add(&ring->epoch, 1);
	futex(&ring->epoch, FUTEX_WAKE, INT32_MAX);
	if (reach(&ring->working, taking))
		return -1;
	if (work)
		rest_for(work);
	ring->begin = now() - ring->begin;
	atomic_store(&ring->stop, 1);
	if (reach(&ring->done, taking))
		return -1;
	atomic_fetch_add(&ring->epoch, 1);
	if (!atomic_load(&ring->failed))
		return 0;
	complain(RIVALS[rival].name, "acquire or release failed");
	return -1;
}

/* --- contended --------------------------------------------------------------------------------------------------- */

/* Returns the ns of `rounds` acquisitions by all helpers; prints the smallest share and the rate of owner changes. */
static int64_t contended(const char *bench, int rival, int taking, int64_t work, long rounds)
{
	uint64_t least = UINT64_MAX;
	char what[64];

	ring->handoffs = 0;
	if (run(rival, taking, work))
		return -1;
	for (int i = 0; i < taking; i++)
		least = ring->each[i].count < least ? ring->each[i].count : least;
	snprintf(what, sizeof(what), taking == 2 ? "%s: lesser share" : "%s: of an even share", RIVALS[rival].name);
	print_figure(bench, what, (double)least * (taking == 2 ? 1 : taking) / (double)ring->total);
	snprintf(what, sizeof(what), "%s: changes", RIVALS[rival].name);
	print_figure(bench, what, (double)ring->changes / (double)ring->begin * 1e9);
	return (int64_t)((double)ring->begin * (double)rounds / (double)ring->total);
}

#define CONTENDED(NAME, RIVAL, BENCH, TAKING, WORK) TURN_BY(NAME, contended(BENCH, RIVAL, TAKING, WORK, rounds))

CONTENDED(two_ours, OURS, "contended", 2, WORK_OF_TWO)
CONTENDED(two_normal, NORMAL, "contended", 2, WORK_OF_TWO)
CONTENDED(two_robust, ROBUST, "contended", 2, WORK_OF_TWO)
CONTENDED(two_semaphore, SEMAPHORE, "contended", 2, WORK_OF_TWO)
CONTENDED(two_boost, BOOST, "contended", 2, WORK_OF_TWO)
CONTENDED(many_ours, OURS, "crowded", MAX_HELPERS, WORK_OF_MANY)
CONTENDED(few_ours, OURS, "crowded, two", 2, WORK_OF_MANY)
CONTENDED(many_robust, ROBUST, "crowded", MAX_HELPERS, WORK_OF_MANY)
CONTENDED(many_normal, NORMAL, "crowded", MAX_HELPERS, WORK_OF_MANY)

int bench_contended(int pairs)
{
	struct contender two[] = {{"shmkit", two_ours},
				  {"pthread", two_normal},
				  {"pthread robust", two_robust},
				  {"sem_t", two_semaphore},
				  {"Boost", two_boost}};
	int result = start_helpers(2);

	if (!result)
		result = measure("contended", two, boost_size() ? 5 : 4, pairs, SCALED_ROUNDS);
	end_helpers();
	return result;
}

int bench_crowded(int pairs)
{
	struct contender many[] = {{"shmkit, 64 processes", many_ours},
				   {"shmkit, 2 processes", few_ours},
				   {"pthread, 64 processes", many_normal},
				   {"pthread robust, 64 processes", many_robust}};
	int result = start_helpers(MAX_HELPERS);

	if (!result)
		result = measure("crowded", many, sizeof(many) / sizeof(*many), pairs, SCALED_ROUNDS);
	end_helpers();
	return result;
}

/* --- hand-over --------------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
	int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

	return (left > right) - (left < right);
}

/* Returns the median ns of `handoffs` hand-overs, multiplied by `rounds`. */
static int64_t handed(int rival, int64_t pause, int handoffs, long rounds)
{
	ring->handoffs = handoffs;
	ring->pause = pause;
	if (run(rival, 2, 0))
		return -1;
	/* The first acquisition was no hand-over. */
	qsort(ring->took + 1, (size_t)handoffs - 1, sizeof(*ring->took), by_size);
	if (rival == OURS && pause == SPINNING)
		print_figure("handoff", RIVALS[rival].name, (double)ring->took[handoffs / 2] / 1e9);
	return ring->took[handoffs / 2] * rounds;
}

#define HANDED(NAME, RIVAL, PAUSE, COUNT) TURN_BY(NAME, handed(RIVAL, PAUSE, COUNT, rounds))

HANDED(running_ours, OURS, SPINNING, HANDOFFS)
HANDED(running_normal, NORMAL, SPINNING, HANDOFFS)
HANDED(running_robust, ROBUST, SPINNING, HANDOFFS)
HANDED(running_flag, FLAG, SPINNING, HANDOFFS)
HANDED(asleep_ours, OURS, ASLEEP, HANDOFFS / 50)
HANDED(asleep_futex, FUTEX, ASLEEP, HANDOFFS / 50)
HANDED(asleep_futex_for, FUTEX_FOR, ASLEEP, HANDOFFS / 50)
HANDED(asleep_robust, ROBUST, ASLEEP, HANDOFFS / 50)

int bench_handoff(int pairs)
{
	struct contender running[] = {{"shmkit", running_ours},
				      {"spins forever", running_flag},
				      {"pthread", running_normal},
				      {"pthread robust", running_robust}};
	struct contender asleep[] = {{"shmkit", asleep_ours},
				     {"raw futex", asleep_futex},
				     {"raw futex, deadline", asleep_futex_for},
				     {"pthread robust", asleep_robust}};
	int result = start_helpers(2);

	if (!result)
		result = measure("handoff, running", running, sizeof(running) / sizeof(*running), pairs, 10000);
	if (!result)
		result = measure("handoff, asleep", asleep, sizeof(asleep) / sizeof(*asleep), pairs, 1000);
	end_helpers();
	return result;
}
