/*
 * Compares semaphores from C with sem_t: an uncontended permit, and permits that two processes exchange.
 *
 *   semaphore PAIRS [BENCH...]      prints the samples of each bench as lines of JSON (pairs.h)
 */

#include "pairs.h"

#include <semaphore.h>

enum { THERE, BACK, BOTH };

/* The peers, in memory that both processes share; each in a cache line of its own. */
static struct shared {
	struct {
		_Alignas(64) sem_t semaphore;
		_Alignas(64) uint64_t word;
	} of[BOTH], alone;
} *shared;

/* Our unnamed semaphores, which forked children inherit. */
static shmkit_semaphore *plain, *with_undo, *turns[BOTH];

/* --- an uncontended permit --------------------------------------------------------------------------------------- */

static inline int ours(shmkit_semaphore *which)
{
	return shmkit_semaphore_acquire(which, 1, SHMKIT_FOREVER, 0) | shmkit_semaphore_release(which, 1);
}

static inline int exchange(uint64_t *word)
{
	uint64_t seen = __atomic_load_n(word, __ATOMIC_RELAXED);

	if (!__atomic_compare_exchange_n(word, &seen, seen - 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return 1;
	seen--;
	return !__atomic_compare_exchange_n(word, &seen, seen + 1, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}

TURN_OF(turn_plain, ours(plain))
TURN_OF(turn_undo, ours(with_undo))
TURN_OF(turn_sem, sem_wait(&shared->alone.semaphore) | sem_post(&shared->alone.semaphore))
TURN_OF(turn_exchange, exchange(&shared->alone.word))

static int bench_alone(int pairs)
{
	static const struct contender them[] = {
		{"shmkit", turn_plain}, {"shmkit, undo", turn_undo}, {"sem_t", turn_sem}, {"exchanges, inlined", turn_exchange}};

	return measure("semaphore alone", them, sizeof(them) / sizeof(*them), pairs, 0);
}

/* --- permits that two processes exchange ------------------------------------------------------------------------- */

static int release_ours(int which)
{
	return shmkit_semaphore_release(turns[which], 1);
}

static int acquire_ours(int which)
{
	return shmkit_semaphore_acquire(turns[which], 1, SHMKIT_FOREVER, 0);
}

static int release_sem(int which)
{
	return sem_post(&shared->of[which].semaphore);
}

static int acquire_sem(int which)
{
	return sem_wait(&shared->of[which].semaphore);
}

/* Forks the process that answers, makes `rounds` round trips, and returns their ns. */
static int64_t take_turns(long rounds, int (*release)(int which), int (*acquire)(int which))
{
	pid_t child = fork_helper(0);
	int failed = 0, status = -1;
	int64_t begin;

	if (child == 0) {
		bind_to(1);
		for (long i = 0; i <= rounds && !failed; i++)
			failed = acquire(THERE) | release(BACK);
		_exit(failed);
	}
	bind_to(0);
	/* The first round waits until the other process is ready. */
	failed = child < 0 || release(THERE) || acquire(BACK);
	begin = now();
	for (long i = 0; i < rounds && !failed; i++)
		failed = release(THERE) | acquire(BACK);
	begin = now() - begin;
	unbind();
	if (failed && child > 0)
		kill(child, SIGKILL);
	if (waitpid(child, &status, 0) == child && status == 0)
		return begin;
	complain("taking turns", "a process failed");
	return -1;
}

TURN_BY(turn_turns_ours, take_turns(rounds, release_ours, acquire_ours))
TURN_BY(turn_turns_sem, take_turns(rounds, release_sem, acquire_sem))

static int bench_turns(int pairs)
{
	static const struct contender them[] = {{"shmkit", turn_turns_ours}, {"sem_t", turn_turns_sem}};

	return measure("semaphore turns", them, sizeof(them) / sizeof(*them), pairs, 0);
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct bench BENCHES[] = {{"semaphore alone", bench_alone, 1}, {"semaphore turns", bench_turns, 2}};

static int prepare(void)
{
	shmkit_semaphore_options options = {.struct_size = sizeof(options), .value = 1};

	shared = shared_memory(sizeof(*shared), 0);
	if (!shared || sem_init(&shared->alone.semaphore, 1, 1))
		return bad("the peers");
	shared->alone.word = 1;
	if (shmkit_semaphore_create(NULL, &options, &plain))
		return refused("create");
	options.flags = SHMKIT_SEMAPHORE_UNDO;
	if (shmkit_semaphore_create(NULL, &options, &with_undo))
		return refused("create");
	for (int which = 0; which < BOTH; which++)
		if (sem_init(&shared->of[which].semaphore, 1, 0) || shmkit_semaphore_create(NULL, NULL, &turns[which]))
			return refused("create");
	return 0;
}

int main(int argc, char **argv)
{
	return bench_main(argc, argv, BENCHES, sizeof(BENCHES) / sizeof(*BENCHES), prepare);
}
