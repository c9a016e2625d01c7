/*
 * Compares barriers from C with their peers: one party, two processes, and eight processes.
 *
 *   barrier PAIRS [BENCH...]      prints the samples of each bench as lines of JSON (pairs.h)
 *
 * A turn forks the other parties, and all parties wait equally often. The time of a turn is that from the first wait
 * of this process to its last. Each of two parties is bound to a processor of its own.
 */

#include "pairs.h"

#include <pthread.h>
#include <stdatomic.h>

/* The largest number of parties. */
enum { MANY = 8 };
/* A turn of more seconds has failed. */
static const unsigned DEADLINE_SECONDS = 60;

/* The peers, in memory that all processes share; each in a cache line of its own. */
static struct shared {
	_Alignas(64) pthread_barrier_t pthread;
	_Alignas(64) atomic_uint arrived;
	_Alignas(64) atomic_uint turn;
	/* The number of parties that are ready; a party has failed. */
	_Alignas(64) atomic_int ready, failed;
} *shared;

/* Our unnamed barrier, which forked children inherit. */
static shmkit_barrier *ours;

/* The number of parties. */
static uint32_t parties;

/* --- the rivals -------------------------------------------------------------------------------------------------- */

static int wait_ours(void)
{
	return shmkit_barrier_wait(ours, SHMKIT_FOREVER, 0, NULL);
}

static int wait_pthread(void)
{
	int result = pthread_barrier_wait(&shared->pthread);

	return result && result != PTHREAD_BARRIER_SERIAL_THREAD;
}

/* The limit of the hardware: spinning on a word. */
static int wait_words(void)
{
	uint32_t turn = atomic_load_explicit(&shared->turn, memory_order_relaxed);

	if (atomic_fetch_add_explicit(&shared->arrived, 1, memory_order_acq_rel) + 1 == parties) {
		atomic_store_explicit(&shared->arrived, 0, memory_order_relaxed);
		atomic_store_explicit(&shared->turn, turn + 1, memory_order_release);
		return 0;
	}
	while (atomic_load_explicit(&shared->turn, memory_order_acquire) == turn)
		;
	return 0;
}

/* --- the processes ----------------------------------------------------------------------------------------------- */

static void wait_and_end(int (*wait)(void), long rounds, int number)
{
	int failed = 0;

	if (parties == 2)
		bind_to(number);
	atomic_fetch_add(&shared->ready, 1);
	for (long i = 0; i < rounds; i++)
		failed |= wait();
	if (failed)
		atomic_store(&shared->failed, 1);
	_exit(EXIT_SUCCESS);
}

/* Makes all parties wait `rounds` times; returns the ns of this process. */
static int64_t turn(int (*wait)(void), long rounds)
{
	pid_t children[MANY];
	int64_t begin;
	int failed = 0;
	uint32_t others = 0;

	atomic_store(&shared->ready, 0);
	if (parties == 2)
		bind_to(0);
	else
		unbind();
	while (others < parties - 1) {
		children[others] = fork_helper(DEADLINE_SECONDS);
		if (children[others] == 0)
			wait_and_end(wait, rounds, (int)others + 1);
		if (children[others] < 0)
			break;
		others++;
	}
	if (others < parties - 1) {
		while (others > 0)
			finish(children[--others]);
		return -1;
	}
	while (atomic_load(&shared->ready) < (int)others)
		sched_yield();
	begin = now();
	for (long i = 0; i < rounds; i++)
		failed |= wait();
	begin = now() - begin;
	for (uint32_t i = 0; i < others; i++) {
		int status = 0;

		waitpid(children[i], &status, 0);
		failed |= status;
	}
	if (failed || atomic_load(&shared->failed)) {
		complain("a turn", "a call failed, or another process died");
		return -1;
	}
	return begin;
}

TURN_BY(turn_ours, turn(wait_ours, rounds))
TURN_BY(turn_pthread, turn(wait_pthread, rounds))
TURN_BY(turn_words, turn(wait_words, rounds))

/* Creates all barriers for `count` parties. */
static int make(uint32_t count)
{
	shmkit_barrier_options options = {.struct_size = sizeof(options), .parties = count};
	pthread_barrierattr_t attributes;

	parties = count;
	if (pthread_barrierattr_init(&attributes) ||
	    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) ||
	    pthread_barrier_init(&shared->pthread, &attributes, count)) {
		complain("pthread_barrier_init", "failed");
		return -1;
	}
	return shmkit_barrier_create(NULL, &options, &ours) ? refused("create") : 0;
}

static int bench(const char *name, uint32_t count, int contenders, int pairs, long rounds)
{
	struct contender them[] = {
		{"shmkit", turn_ours}, {"pthread_barrier_t", turn_pthread}, {"words", turn_words}};
	int result = make(count) ? -1 : measure(name, them, contenders, pairs, rounds);

	shmkit_barrier_close(ours);
	ours = NULL;
	pthread_barrier_destroy(&shared->pthread);
	return result;
}

static int bench_alone(int pairs)
{
	return bench("barrier of 1", 1, 3, pairs, 0);
}

static int bench_two(int pairs)
{
	return bench("barrier of 2", 2, 3, pairs, 2000);
}

/* The words are left out: eight spinning processes would need eight processors. */
static int bench_many(int pairs)
{
	return bench("barrier of 8", MANY, 2, pairs, 500);
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct bench BENCHES[] = {
	{"barrier of 1", bench_alone, 1}, {"barrier of 2", bench_two, 2}, {"barrier of 8", bench_many, 1}};

static int prepare(void)
{
	shared = shared_memory(sizeof(*shared), 0);
	return shared ? 0 : bad("mmap");
}

int main(int argc, char **argv)
{
	return bench_main(argc, argv, BENCHES, sizeof(BENCHES) / sizeof(*BENCHES), prepare);
}
