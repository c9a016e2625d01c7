/*
 * Readers-writer locks from C, beside a lock of ours and the one of pthread: alone, two processes that read, and a
 * writer that comes among readers.
 *
 *   rwlock PAIRS [BENCH...]      prints the samples of each bench as lines of JSON (pairs.h)
 *
 * Reading: as many rounds are done by one process, or by two that are bound to a processor each, half of them by each.
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

/* Within so many seconds a turn is over, or something is wrong. */
static const unsigned PATIENCE = 60;
/* How many processes read without end while a writer comes, how long each holds it, and how often the writer comes. */
enum { READERS = 2, WRITES = 20 };
static const int64_t READING = 50000;

/* What the processes share; each in a line of its own. */
static struct shared {
	/* Readers go first, as is the default, and writers do. */
	_Alignas(64) pthread_rwlock_t plain;
	_Alignas(64) pthread_rwlock_t fair;
	/* How many helpers are there; they may go; how many are done; one has failed. */
	_Alignas(64) atomic_int ready, go, done, failed;
} *shared;

/* Ours, without a name: forked children have them too. */
static shmkit_rwlock *rwlock;
static shmkit_lock *lock;

static int complain_of(const char *what)
{
	const char *why = "";

	shmkit_last_error(NULL, NULL, &why);
	complain(what, why);
	return -1;
}

/* --- the rivals -------------------------------------------------------------------------------------------------- */

static inline int read_ours(void)
{
	return shmkit_rwlock_acquire_read(rwlock, SHMKIT_FOREVER, 0, NULL) | shmkit_rwlock_release_read(rwlock);
}

static inline int write_ours(void)
{
	return shmkit_rwlock_acquire_write(rwlock, SHMKIT_FOREVER, 0, NULL) | shmkit_rwlock_release_write(rwlock);
}

static inline int change_ours(void)
{
	return shmkit_rwlock_acquire_read(rwlock, SHMKIT_FOREVER, 0, NULL) |
	       shmkit_rwlock_upgrade(rwlock, SHMKIT_FOREVER, 0) | shmkit_rwlock_downgrade(rwlock) |
	       shmkit_rwlock_release_read(rwlock);
}

static inline int take_lock(void)
{
	return shmkit_lock_acquire(lock, SHMKIT_FOREVER, 0, NULL) | shmkit_lock_release(lock);
}

static inline int read_pthread(void)
{
	return pthread_rwlock_rdlock(&shared->plain) | pthread_rwlock_unlock(&shared->plain);
}

static inline int write_pthread(void)
{
	return pthread_rwlock_wrlock(&shared->plain) | pthread_rwlock_unlock(&shared->plain);
}

/* --- one process ------------------------------------------------------------------------------------------------- */

/* Makes a turn of what is done each round; it returns nonzero where it fails. */
#define TURN(NAME, ROUND)                                                                                              \
	static int64_t NAME(long rounds)                                                                                   \
	{                                                                                                                  \
		int failed = 0;                                                                                                \
		int64_t begin = now();                                                                                         \
                                                                                                                       \
		for (long i = 0; i < rounds; i++)                                                                              \
			failed |= ROUND();                                                                                         \
		begin = now() - begin;                                                                                         \
		if (!failed)                                                                                                   \
			return begin;                                                                                              \
		complain(#NAME, "a round failed");                                                                             \
		return -1;                                                                                                     \
	}

TURN(turn_read, read_ours)
TURN(turn_write, write_ours)
TURN(turn_change, change_ours)
TURN(turn_lock, take_lock)
TURN(turn_read_pthread, read_pthread)
TURN(turn_write_pthread, write_pthread)

static int bench_alone(int pairs)
{
	struct contender them[] = {{"reader", turn_read},
				   {"writer", turn_write},
				   {"reader, upgrade, downgrade", turn_change},
				   {"Lock", turn_lock},
				   {"pthread reader", turn_read_pthread},
				   {"pthread writer", turn_write_pthread}};

	return measure("rwlock alone", them, sizeof(them) / sizeof(*them), pairs, 0);
}

/* --- several processes ------------------------------------------------------------------------------------------- */

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

/* Forks a helper that does `body(argument)` once it may go; returns its pid, or -1. */
static pid_t start(void (*body)(long), long argument)
{
	pid_t parent = getpid(), child = fork();

	if (child < 0)
		complain("fork", strerror(errno));
	if (child != 0)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(PATIENCE);
	if (getppid() == parent)
		body(argument);
	_exit(EXIT_SUCCESS);
}

static void await(int helpers)
{
	while (atomic_load(&shared->ready) < helpers)
		sched_yield();
}

static int (*round_of_helper)(void);

static void do_rounds(long rounds)
{
	int failed = 0;

	bind_to(1);
	/* Once before it counts: from then on it is known. */
	failed |= round_of_helper();
	atomic_fetch_add(&shared->ready, 1);
	while (!atomic_load(&shared->go))
		;
	for (long i = 0; i < rounds; i++)
		failed |= round_of_helper();
	if (failed)
		atomic_store(&shared->failed, 1);
	atomic_store(&shared->done, 1);
}

/* Has a child do its part of the rounds, at the same time; with none it only starts and ends. */
static int64_t with_child(long rounds, long of_child)
{
	int64_t begin;
	int failed = 0, status = 0;
	pid_t child;

	atomic_store(&shared->ready, 0);
	atomic_store(&shared->go, 0);
	atomic_store(&shared->done, 0);
	child = start(do_rounds, of_child);
	if (child < 0)
		return -1;
	await(1);
	begin = now();
	atomic_store(&shared->go, 1);
	for (long i = 0; i < rounds - of_child; i++)
		failed |= round_of_helper();
	/* Its end, which takes longer than many rounds, does not count. */
	while (!atomic_load(&shared->done) && waitpid(child, &status, WNOHANG) == 0)
		;
	begin = now() - begin;
	waitpid(child, &status, 0);
	if (!failed && !status && !atomic_load(&shared->failed))
		return begin;
	complain("two readers", "a call has failed, or the other process has died");
	return -1;
}

static int64_t two_ours(long rounds)
{
	round_of_helper = read_ours;
	return with_child(rounds, rounds / 2);
}

static int64_t one_ours(long rounds)
{
	round_of_helper = read_ours;
	return with_child(rounds, 0);
}

static int64_t two_pthread(long rounds)
{
	round_of_helper = read_pthread;
	return with_child(rounds, rounds / 2);
}

static int64_t one_pthread(long rounds)
{
	round_of_helper = read_pthread;
	return with_child(rounds, 0);
}

/* Enough that the start of a helper, on a processor that has been idle, does not count. */
static const long MANY = 20000000;

static int bench_readers(int pairs)
{
	struct contender them[] = {{"two processes", two_ours},
				   {"one process", one_ours},
				   {"pthread, two processes", two_pthread},
				   {"pthread, one process", one_pthread}};

	if (CPU_COUNT(&processors) > 1)
		return measure("rwlock readers", them, sizeof(them) / sizeof(*them), pairs, MANY);
	skip("rwlock readers", "there is one processor, and two processes do not read at once");
	return 0;
}

static void hold_for(int64_t ns)
{
	for (int64_t begin = now(); now() - begin < ns;)
		;
}

static void read_ours_for_ever(long unused)
{
	(void)unused;
	for (atomic_fetch_add(&shared->ready, 1);;) {
		if (shmkit_rwlock_acquire_read(rwlock, SHMKIT_FOREVER, 0, NULL))
			atomic_store(&shared->failed, 1);
		hold_for(READING);
		shmkit_rwlock_release_read(rwlock);
	}
}

static void read_pthread_for_ever(long unused)
{
	(void)unused;
	for (atomic_fetch_add(&shared->ready, 1);;) {
		pthread_rwlock_rdlock(&shared->fair);
		hold_for(READING);
		pthread_rwlock_unlock(&shared->fair);
	}
}

/* Tells how long a writer waits until it is in; -1 where it fails. */
static int write_among(const char *name, void (*reader)(long), int (*enter)(void), int (*leave)(void), int times)
{
	pid_t children[READERS];
	int failed = 0;

	atomic_store(&shared->ready, 0);
	for (int i = 0; i < READERS; i++)
		children[i] = start(reader, 0);
	await(READERS);
	for (int i = 0; i < times; i++) {
		struct timespec rest = {.tv_nsec = 2000000};
		int64_t begin;

		nanosleep(&rest, NULL);
		begin = now();
		failed |= enter();
		begin = now() - begin;
		failed |= leave();
		tell_figure("rwlock writer", name, (double)begin / 1e9);
	}
	for (int i = 0; i < READERS; i++) {
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
	}
	if (failed || atomic_load(&shared->failed)) {
		complain("a writer", "a call has failed");
		return -1;
	}
	return stopped() ? -1 : 0;
}

static int enter_ours(void)
{
	return shmkit_rwlock_acquire_write(rwlock, SHMKIT_FOREVER, 0, NULL);
}

static int leave_ours(void)
{
	return shmkit_rwlock_release_write(rwlock);
}

static int enter_pthread(void)
{
	return pthread_rwlock_wrlock(&shared->fair);
}

static int leave_pthread(void)
{
	return pthread_rwlock_unlock(&shared->fair);
}

static int make_pthread(pthread_rwlock_t *made, int kind)
{
	pthread_rwlockattr_t how;

	pthread_rwlockattr_init(&how);
	pthread_rwlockattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
	pthread_rwlockattr_setkind_np(&how, kind);
	errno = pthread_rwlock_init(made, &how);
	pthread_rwlockattr_destroy(&how);
	if (errno)
		complain("pthread_rwlock_init", strerror(errno));
	return errno ? -1 : 0;
}

static int bench_writer(int pairs)
{
	for (int pair = 0; pair < pairs; pair++) {
		if (write_among("shmkit", read_ours_for_ever, enter_ours, leave_ours, WRITES))
			return -1;
		/* Its readers were killed, perhaps while they had it: ours knows, this one needs to be made anew. */
		if (make_pthread(&shared->fair, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) ||
		    write_among("pthread, writers first", read_pthread_for_ever, enter_pthread, leave_pthread, WRITES))
			return -1;
	}
	return 0;
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	int (*run)(int pairs);
} BENCHES[] = {{"rwlock alone", bench_alone}, {"rwlock readers", bench_readers}, {"rwlock writer", bench_writer}};

static int prepare(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		complain("mmap", strerror(errno));
		return -1;
	}
	if (make_pthread(&shared->plain, PTHREAD_RWLOCK_DEFAULT_NP))
		return -1;
	if (shmkit_rwlock_create(NULL, NULL, &rwlock) || shmkit_lock_create(NULL, NULL, &lock))
		return complain_of("create");
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
	unsetenv("SHMKIT_DIR");
	if (pairs < 1) {
		fprintf(stderr, "usage: %s PAIRS [BENCH...]\n", argv[0]);
		return EXIT_FAILURE;
	}
	if (prepare() || sched_getaffinity(0, sizeof(processors), &processors))
		return EXIT_FAILURE;
	for (size_t i = 0; i < sizeof(BENCHES) / sizeof(*BENCHES); i++) {
		/* Only where another process does the same does the place matter. */
		if (BENCHES[i].run == bench_readers)
			bind_to(0);
		if (wants(argc, argv, BENCHES[i].name) && BENCHES[i].run(pairs))
			return stopped() ? 128 + SIGINT : EXIT_FAILURE;
		sched_setaffinity(0, sizeof(processors), &processors);
	}
	shmkit_rwlock_close(rwlock);
	shmkit_lock_close(lock);
	return EXIT_SUCCESS;
}
