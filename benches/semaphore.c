/*
 * Semaphores from C, beside sem_t: a permit that nobody else wants, and permits that two processes give each other.
 *
 *   semaphore PAIRS [BENCH...]      prints the samples of each bench as lines of JSON (pairs.h)
 */

#include "pairs.h"

#include <sched.h>
#include <semaphore.h>
#include <shmkit.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THERE, BACK, BOTH };

/* The peers, in memory that both processes share; each in a line of its own. */
static struct shared {
	struct {
		_Alignas(64) sem_t semaphore;
		_Alignas(64) uint64_t word;
	} of[BOTH], alone;
} *shared;

/* Ours, without a name: forked children have them too. */
static shmkit_semaphore *plain, *with_undo, *turns[BOTH];

static int refused(const char *what)
{
	const char *why = "";

	shmkit_last_error(NULL, NULL, &why);
	complain(what, why);
	return -1;
}

/* --- a permit that nobody else wants ----------------------------------------------------------------------------- */

/* Makes a turn of what is done each round; it returns nonzero where it fails. */
#define TURN(NAME, ROUND)                                                                                              \
	static int64_t NAME(long rounds)                                                                                   \
	{                                                                                                                  \
		int failed = 0;                                                                                                \
		int64_t begin = now();                                                                                         \
                                                                                                                       \
		for (long i = 0; i < rounds; i++)                                                                              \
			failed |= ROUND;                                                                                           \
		begin = now() - begin;                                                                                         \
		if (!failed)                                                                                                   \
			return begin;                                                                                              \
		complain(#NAME, "a round failed");                                                                             \
		return -1;                                                                                                     \
	}

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

TURN(turn_plain, ours(plain))
TURN(turn_undo, ours(with_undo))
TURN(turn_sem, sem_wait(&shared->alone.semaphore) | sem_post(&shared->alone.semaphore))
TURN(turn_exchange, exchange(&shared->alone.word))

static int bench_alone(int pairs)
{
	static const struct contender them[] = {
		{"shmkit", turn_plain}, {"shmkit, undo", turn_undo}, {"sem_t", turn_sem}, {"exchanges, inlined", turn_exchange}};

	return measure("semaphore alone", them, sizeof(them) / sizeof(*them), pairs, 0);
}

/* --- permits that two processes give each other ------------------------------------------------------------------ */

static int give_ours(int which)
{
	return shmkit_semaphore_release(turns[which], 1);
}

static int take_ours(int which)
{
	return shmkit_semaphore_acquire(turns[which], 1, SHMKIT_FOREVER, 0);
}

static int give_sem(int which)
{
	return sem_post(&shared->of[which].semaphore);
}

static int take_sem(int which)
{
	return sem_wait(&shared->of[which].semaphore);
}

/* Where this program may run. */
static cpu_set_t processors;

static void bind_to(int processor)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	for (int at = 0; at < CPU_SETSIZE; at++)
		if (CPU_ISSET(at, &processors) && processor-- == 0)
			CPU_SET(at, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

/* Forks who answers, asks so often, and returns how long that took. */
static int64_t take_turns(long rounds, int (*give)(int which), int (*take)(int which))
{
	pid_t parent = getpid(), child = fork();
	int failed = 0, status = -1;
	int64_t begin;

	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		bind_to(1);
		failed = getppid() != parent;
		for (long i = 0; i <= rounds && !failed; i++)
			failed = take(THERE) | give(BACK);
		_exit(failed);
	}
	bind_to(0);
	/* The first round waits until the other one is there. */
	failed = child < 0 || give(THERE) || take(BACK);
	begin = now();
	for (long i = 0; i < rounds && !failed; i++)
		failed = give(THERE) | take(BACK);
	begin = now() - begin;
	sched_setaffinity(0, sizeof(processors), &processors);
	if (failed)
		kill(child, SIGKILL);
	if (waitpid(child, &status, 0) == child && status == 0)
		return begin;
	complain("taking turns", "a process has failed");
	return -1;
}

static int64_t turn_turns_ours(long rounds)
{
	return take_turns(rounds, give_ours, take_ours);
}

static int64_t turn_turns_sem(long rounds)
{
	return take_turns(rounds, give_sem, take_sem);
}

static int bench_turns(int pairs)
{
	static const struct contender them[] = {{"shmkit", turn_turns_ours}, {"sem_t", turn_turns_sem}};

	if (CPU_COUNT(&processors) < 2) {
		skip("semaphore turns", "one processor");
		return 0;
	}
	return measure("semaphore turns", them, sizeof(them) / sizeof(*them), pairs, 0);
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	int (*run)(int pairs);
} BENCHES[] = {{"semaphore alone", bench_alone}, {"semaphore turns", bench_turns}};

static int prepare(void)
{
	shmkit_semaphore_options options = {.struct_size = sizeof(options), .value = 1};

	sched_getaffinity(0, sizeof(processors), &processors);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || sem_init(&shared->alone.semaphore, 1, 1)) {
		complain("the peers", strerror(errno));
		return -1;
	}
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

static int wants(int argc, char **argv, const char *bench)
{
	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], bench) == 0)
			return 1;
	return argc == 2;
}

int main(int argc, char **argv)
{
	int pairs = argc > 1 ? atoi(argv[1]) : 0;

	hold_signals();
	if (pairs < 1) {
		fprintf(stderr, "usage: %s PAIRS [BENCH...]\n", argv[0]);
		return EXIT_FAILURE;
	}
	if (prepare())
		return EXIT_FAILURE;
	for (size_t i = 0; i < sizeof(BENCHES) / sizeof(*BENCHES); i++)
		if (wants(argc, argv, BENCHES[i].name) && BENCHES[i].run(pairs))
			return stopped() ? 128 + SIGINT : EXIT_FAILURE;
	return EXIT_SUCCESS;
}
