/*
 * Compares readers-writer locks from C with a Lock and with pthread_rwlock_t: uncontended, two reading processes, and
 * a writer among readers.
 *
 *   rwlock PAIRS [BENCH...]      prints the samples of each bench as lines of JSON (pairs.h)
 *
 * Reading: one process runs all rounds, or two processes, each bound to a processor, run half of them each.
 */

#include "pairs.h"

#include <pthread.h>
#include <stdatomic.h>

/* A turn of more seconds has failed. */
static const unsigned DEADLINE_SECONDS = 60;
/* The number of processes that read forever, the number of writes, and the ns of each read. */
enum { READERS = 2, WRITES = 20 };
static const int64_t READING = 50000;

/* State that the processes share; each member in a cache line of its own. */
static struct shared {
	/* One lock prefers readers (the default), the other prefers writers. */
	_Alignas(64) pthread_rwlock_t plain;
	_Alignas(64) pthread_rwlock_t fair;
	/* The number of ready helpers; they may begin; the helper is done; a helper has failed. */
	_Alignas(64) atomic_int ready, go, done, failed;
} *shared;

/* Our unnamed locks, which forked children inherit. */
static shmkit_rwlock *rwlock;
static shmkit_lock *lock;

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

TURN_OF(turn_read, read_ours())
TURN_OF(turn_write, write_ours())
TURN_OF(turn_change, change_ours())
TURN_OF(turn_lock, take_lock())
TURN_OF(turn_read_pthread, read_pthread())
TURN_OF(turn_write_pthread, write_pthread())

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

/* Forks a helper that runs `body(argument)`; returns its pid, or -1. */
static pid_t start(void (*body)(long), long argument)
{
	pid_t child = fork_helper(DEADLINE_SECONDS);

	if (child != 0)
		return child;
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
	/* The first round, which registers the process, is not timed. */
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

/* Runs the rounds, `of_child` of them in a child at the same time; with 0 the child only starts and ends. */
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
	/* The exit of the child, which takes longer than many rounds, is not timed. */
	while (!atomic_load(&shared->done) && waitpid(child, &status, WNOHANG) == 0)
		;
	begin = now() - begin;
	waitpid(child, &status, 0);
	if (!failed && !status && !atomic_load(&shared->failed))
		return begin;
	complain("two readers", "a call failed, or the other process died");
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

/* So many that the start of a helper on an idle processor is negligible. */
static const long MANY = 20000000;

static int bench_readers(int pairs)
{
	struct contender them[] = {{"two processes", two_ours},
				   {"one process", one_ours},
				   {"pthread, two processes", two_pthread},
				   {"pthread, one process", one_pthread}};
	int result;

	bind_to(0);
	result = measure("rwlock readers", them, sizeof(them) / sizeof(*them), pairs, MANY);
	unbind();
	return result;
}

static void hold_for(int64_t ns)
{
	for (int64_t begin = now(); now() - begin < ns;)
		;
}

static void keep_reading_ours(long unused)
{
	(void)unused;
	for (atomic_fetch_add(&shared->ready, 1);;) {
		if (shmkit_rwlock_acquire_read(rwlock, SHMKIT_FOREVER, 0, NULL))
			atomic_store(&shared->failed, 1);
		hold_for(READING);
		shmkit_rwlock_release_read(rwlock);
	}
}

static void keep_reading_pthread(long unused)
{
	(void)unused;
	for (atomic_fetch_add(&shared->ready, 1);;) {
		pthread_rwlock_rdlock(&shared->fair);
		hold_for(READING);
		pthread_rwlock_unlock(&shared->fair);
	}
}

/* Prints how long a writer waits for the lock; returns -1 on failure. */
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
		print_figure("rwlock writer", name, (double)begin / 1e9);
	}
	for (int i = 0; i < READERS; i++)
		finish(children[i]);
	if (failed || atomic_load(&shared->failed)) {
		complain("a writer", "a call failed");
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
	return errno ? bad("pthread_rwlock_init") : 0;
}

static int bench_writer(int pairs)
{
	for (int pair = 0; pair < pairs; pair++) {
		if (write_among("shmkit", keep_reading_ours, enter_ours, leave_ours, WRITES))
			return -1;
		/* The readers were killed, perhaps while they held the lock. shmkit recovers; this lock must be created again. */
		if (make_pthread(&shared->fair, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) ||
		    write_among("pthread, writers first", keep_reading_pthread, enter_pthread, leave_pthread, WRITES))
			return -1;
	}
	return 0;
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct bench BENCHES[] = {
	{"rwlock alone", bench_alone, 1}, {"rwlock readers", bench_readers, 2}, {"rwlock writer", bench_writer, 1}};

static int prepare(void)
{
	shared = shared_memory(sizeof(*shared), 0);
	if (!shared)
		return bad("mmap");
	if (make_pthread(&shared->plain, PTHREAD_RWLOCK_DEFAULT_NP))
		return -1;
	if (shmkit_rwlock_create(NULL, NULL, &rwlock) || shmkit_lock_create(NULL, NULL, &lock))
		return refused("create");
	return 0;
}

int main(int argc, char **argv)
{
	return bench_main(argc, argv, BENCHES, sizeof(BENCHES) / sizeof(*BENCHES), prepare);
}
