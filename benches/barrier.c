/*
 * Barriers from C, beside their peers: alone, between two processes, and between eight.
 *
 *   barrier PAIRS [BENCH...]      prints the samples of each bench as lines of JSON (pairs.h)
 *
 * A turn forks as many processes as are missing, and all of them wait so often; what counts is the time from the first
 * wait of the one that has forked them to its last, by the number of waits. Between two, each of them is bound to a
 * processor of its own.
 */

#include "pairs.h"

#include <pthread.h>
#include <sched.h>
#include <shmkit.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* As many parties as there are at the most. */
enum { MANY = 8 };
/* Within so many seconds a turn is over, or something is wrong. */
static const unsigned PATIENCE = 60;

/* The peers, in memory that all processes share; each in a line of its own. */
static struct shared {
	_Alignas(64) pthread_barrier_t pthread;
	_Alignas(64) atomic_uint arrived;
	_Alignas(64) atomic_uint turn;
	/* How many are there; one has failed. */
	_Alignas(64) atomic_int ready, failed;
} *shared;

/* Ours, without a name: forked children have it too. */
static shmkit_barrier *ours;

/* How many wait. */
static uint32_t parties;

/* --- the rivals -------------------------------------------------------------------------------------------------- */

static int wait_ours(void)
{
	return shmkit_barrier_wait(ours, SHMKIT_FOREVER, 0, NULL);
}

static int wait_pthread(void)
{
	int told = pthread_barrier_wait(&shared->pthread);

	return told && told != PTHREAD_BARRIER_SERIAL_THREAD;
}

/* What the hardware can do: a word that is looked at for ever. */
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

static void wait_and_end(int (*wait)(void), long rounds, int number, pid_t parent)
{
	int failed = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(PATIENCE);
	if (getppid() != parent)
		_exit(EXIT_FAILURE);
	if (parties == 2)
		bind_to(number);
	atomic_fetch_add(&shared->ready, 1);
	for (long i = 0; i < rounds; i++)
		failed |= wait();
	if (failed)
		atomic_store(&shared->failed, 1);
	_exit(EXIT_SUCCESS);
}

/* Has all wait so often; returns the ns that took. */
static int64_t turn(int (*wait)(void), long rounds)
{
	pid_t parent = getpid(), children[MANY];
	int64_t begin;
	int failed = 0;
	uint32_t others = 0;

	atomic_store(&shared->ready, 0);
	if (parties == 2)
		bind_to(0);
	else
		sched_setaffinity(0, sizeof(processors), &processors);
	while (others < parties - 1) {
		children[others] = fork();
		if (children[others] == 0)
			wait_and_end(wait, rounds, (int)others + 1, parent);
		if (children[others] < 0)
			break;
		others++;
	}
	if (others < parties - 1) {
		complain("fork", strerror(errno));
		while (others > 0)
			kill(children[--others], SIGKILL);
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
		complain("a turn", "a call has failed, or another process has died");
		return -1;
	}
	return begin;
}

static int64_t turn_ours(long rounds)
{
	return turn(wait_ours, rounds);
}

static int64_t turn_pthread(long rounds)
{
	return turn(wait_pthread, rounds);
}

static int64_t turn_words(long rounds)
{
	return turn(wait_words, rounds);
}

/* Makes all barriers for so many. */
static int prepare(uint32_t count)
{
	shmkit_barrier_options options = {.struct_size = sizeof(options), .parties = count};
	pthread_barrierattr_t attributes;
	const char *why = "";

	parties = count;
	if (pthread_barrierattr_init(&attributes) ||
	    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) ||
	    pthread_barrier_init(&shared->pthread, &attributes, count)) {
		complain("pthread_barrier_init", "refused");
		return -1;
	}
	if (shmkit_barrier_create(NULL, &options, &ours)) {
		shmkit_last_error(NULL, NULL, &why);
		complain("create", why);
		return -1;
	}
	return 0;
}

static int bench(const char *name, uint32_t count, int contenders, int pairs, long rounds)
{
	struct contender them[] = {
		{"shmkit", turn_ours}, {"pthread_barrier_t", turn_pthread}, {"words", turn_words}};
	int result = prepare(count) ? -1 : measure(name, them, contenders, pairs, rounds);

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
	if (CPU_COUNT(&processors) > 1)
		return bench("barrier of 2", 2, 3, pairs, 2000);
	skip("barrier of 2", "there is one processor, and nobody looks for what the other does");
	return 0;
}

/* Who looks for ever has no processor left for the others: words have no part in it. */
static int bench_many(int pairs)
{
	return bench("barrier of 8", MANY, 2, pairs, 500);
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	int (*run)(int pairs);
} BENCHES[] = {{"barrier of 1", bench_alone}, {"barrier of 2", bench_two}, {"barrier of 8", bench_many}};

static int wants(int argc, char **argv, const char *name)
{
	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return 1;
	return argc == 2;
}

int main(int argc, char **argv)
{
	int pairs = argc > 1 ? atoi(argv[1]) : 0;

	hold_signals();
	unsetenv("SHMKIT_DIR");
	if (pairs < 1) {
		fprintf(stderr, "usage: %s PAIRS [BENCH...]\n", argv[0]);
		return EXIT_FAILURE;
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || sched_getaffinity(0, sizeof(processors), &processors)) {
		complain("mmap", strerror(errno));
		return EXIT_FAILURE;
	}
	for (size_t i = 0; i < sizeof(BENCHES) / sizeof(*BENCHES); i++)
		if (wants(argc, argv, BENCHES[i].name) && BENCHES[i].run(pairs))
			return stopped() ? 128 + SIGINT : EXIT_FAILURE;
	return EXIT_SUCCESS;
}
