/*
 * Compares conditions from C with pthread_cond_t and plain futexes: round trips between two processes; many waiters.
 *
 *   condition PAIRS [BENCH...]      prints the samples of each bench as lines of JSON (pairs.h)
 *
 * Round trips follow trips.h. To post, a process acquires the lock, sets the turn of the other process and notifies.
 * To await, it acquires the lock and waits for its own turn.
 *
 * Many waiters are threads. For `notify` the time of the call counts, while all threads sleep. For `notify_all` the
 * time counts until the last thread has acquired the lock again.
 */

#include "trips.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>

enum { MAX_WAITERS = 128 };

static struct shared {
	struct {
		_Alignas(64) pthread_mutex_t mutex;
		_Alignas(64) pthread_cond_t condition;
	} posix;
	/* Set if it is the turn of that process: guarded by the lock, or a futex. */
	_Alignas(64) atomic_uint turn[BOTH];
	struct trips trips;
} *shared;

/* Our unnamed objects, which forked children inherit. */
static shmkit_lock *lock;
static shmkit_condition *condition;

/* --- the rivals -------------------------------------------------------------------------------------------------- */

static int post_ours(int which)
{
	int failed = shmkit_lock_acquire(lock, SHMKIT_FOREVER, 0, NULL);

	shared->turn[which] = 1;
	failed |= shmkit_condition_notify(condition, lock, 1);
	return failed | shmkit_lock_release(lock);
}

static int await_ours(int which)
{
	int failed = shmkit_lock_acquire(lock, SHMKIT_FOREVER, 0, NULL);

	while (!failed && !shared->turn[which])
		failed |= shmkit_condition_wait(condition, lock, SHMKIT_FOREVER, 0, NULL);
	shared->turn[which] = 0;
	return failed | shmkit_lock_release(lock);
}

static int post_posix(int which)
{
	int failed = pthread_mutex_lock(&shared->posix.mutex);

	shared->turn[which] = 1;
	failed |= pthread_cond_signal(&shared->posix.condition);
	return failed | pthread_mutex_unlock(&shared->posix.mutex);
}

static int await_posix(int which)
{
	int failed = pthread_mutex_lock(&shared->posix.mutex);

	while (!failed && !shared->turn[which])
		failed |= pthread_cond_wait(&shared->posix.condition, &shared->posix.mutex);
	shared->turn[which] = 0;
	return failed | pthread_mutex_unlock(&shared->posix.mutex);
}

/* The limit of the kernel: sleeping at once and always waking. */
static int post_futex(int which)
{
	atomic_store(&shared->turn[which], 1);
	return syscall(SYS_futex, &shared->turn[which], FUTEX_WAKE, 1, NULL, NULL, 0) < 0;
}

/* Sleeps with a deadline and then checks the word again, as shmkit does in case a wake was lost. */
static int await_futex(int which)
{
	static const struct timespec slice = {.tv_nsec = 1000000};

	while (!atomic_exchange(&shared->turn[which], 0))
		syscall(SYS_futex, &shared->turn[which], FUTEX_WAIT, 0, &slice, NULL, 0);
	return 0;
}

static const struct rival OURS = {post_ours, await_ours};
static const struct rival POSIX = {post_posix, await_posix};
static const struct rival FUTEXES = {post_futex, await_futex};

/* --- two processes ----------------------------------------------------------------------------------------------- */

static int answer(long rounds, int64_t *took)
{
	int failed = 0;

	for (long i = 0; i < rounds && !failed; i++)
		failed |= await(THERE, took) | post(BACK);
	return failed;
}

static int ask(long rounds, int64_t *took)
{
	int failed = 0;

	for (long i = 0; i < rounds && !failed; i++)
		failed |= post(THERE) | await(BACK, took);
	return failed;
}

TRIPS(trips_ours, OURS)
TRIPS(trips_posix, POSIX)
TRIPS(trips_futexes, FUTEXES)

static int bench_trips(const char *name, int pairs, int64_t pause, long rounds)
{
	struct contender them[] = {
		{"shmkit", trips_ours}, {"pthread", trips_posix}, {"raw futex, deadline", trips_futexes}};

	return measure_trips(name, them, sizeof(them) / sizeof(*them), pairs, rounds, pause);
}

static int bench_running(int pairs)
{
	return bench_trips("condition running", pairs, 0, 2000);
}

static int bench_asleep(int pairs)
{
	return bench_trips("condition asleep", pairs, ASLEEP, 20);
}

/* --- many waiters ------------------------------------------------------------------------------------------------ */

/* Threads that wait repeatedly, until `over`. */
static struct {
	pthread_t threads[MAX_WAITERS];
	int count;
	atomic_int over, returned, failed;
	int posix;
	/* Guarded by the lock: the number of threads in a wait. */
	volatile int waiting;
} waiters;

static void *wait_again(void *unused)
{
	while (!waiters.over) {
		int failed = waiters.posix ? pthread_mutex_lock(&shared->posix.mutex)
					 : shmkit_lock_acquire(lock, SHMKIT_FOREVER, 0, NULL);

		waiters.waiting++;
		if (!waiters.over)
			failed |= waiters.posix ? pthread_cond_wait(&shared->posix.condition, &shared->posix.mutex)
					      : shmkit_condition_wait(condition, lock, SHMKIT_FOREVER, 0, NULL);
		waiters.waiting--;
		failed |= waiters.posix ? pthread_mutex_unlock(&shared->posix.mutex) : shmkit_lock_release(lock);
		if (failed)
			atomic_store(&waiters.failed, 1);
		atomic_fetch_add(&waiters.returned, 1);
	}
	return unused;
}

/* Acquires the lock once `count` threads wait and sleep; returns nonzero on failure. */
static int lock_when_all_wait(void)
{
	static const struct timespec while_they_fall_asleep = {.tv_nsec = 200000};

	for (;;) {
		int failed = nanosleep(&while_they_fall_asleep, NULL);
		int all;

		failed |= waiters.posix ? pthread_mutex_lock(&shared->posix.mutex)
				      : shmkit_lock_acquire(lock, SHMKIT_FOREVER, 0, NULL);
		all = waiters.waiting == waiters.count;

		if (failed || waiters.failed)
			return -1;
		if (all)
			return 0;
		if (waiters.posix)
			pthread_mutex_unlock(&shared->posix.mutex);
		else
			shmkit_lock_release(lock);
	}
}

static int unlock(void)
{
	return waiters.posix ? pthread_mutex_unlock(&shared->posix.mutex) : shmkit_lock_release(lock);
}

static int notify(int all)
{
	if (waiters.posix)
		return all ? pthread_cond_broadcast(&shared->posix.condition)
			   : pthread_cond_signal(&shared->posix.condition);
	return all ? shmkit_condition_notify_all(condition, lock) : shmkit_condition_notify(condition, lock, 1);
}

/* Notifies one or all of `count` threads `rounds` times; returns the ns that count. */
static int64_t notifications(long rounds, int count, int posix, int all)
{
	int64_t took = 0;
	int failed = 0;

	waiters.count = count;
	waiters.posix = posix;
	waiters.over = waiters.returned = waiters.failed = 0;
	for (int i = 0; i < count; i++)
		if (pthread_create(&waiters.threads[i], NULL, wait_again, NULL)) {
			complain("pthread_create", "failed");
			exit(EXIT_FAILURE);
		}
	for (long i = 0; i < rounds && !failed; i++) {
		int64_t begin;

		failed |= lock_when_all_wait();
		waiters.returned = 0;
		begin = now();
		failed |= notify(all);
		if (!all)
			took += now() - begin;
		failed |= unlock();
		if (!all)
			continue;
		while (!failed && waiters.returned < count)
			sched_yield();
		took += now() - begin;
	}
	failed |= lock_when_all_wait();
	waiters.over = 1;
	failed |= notify(1) | unlock();
	for (int i = 0; i < count; i++)
		pthread_join(waiters.threads[i], NULL);
	if (!failed && !waiters.failed)
		return took;
	complain("a notification", "a call failed");
	return -1;
}

#define NOTIFY(NAME, COUNT, POSIX, ALL) TURN_BY(NAME, notifications(rounds, COUNT, POSIX, ALL))

NOTIFY(one_of_1, 1, 0, 0)
NOTIFY(one_of_100, 100, 0, 0)
NOTIFY(one_of_1_posix, 1, 1, 0)
NOTIFY(one_of_100_posix, 100, 1, 0)
NOTIFY(all_of_128, 128, 0, 1)
NOTIFY(all_of_128_posix, 128, 1, 1)

static int bench_notify(int pairs)
{
	struct contender them[] = {{"1 waiter", one_of_1},
				   {"100 waiters", one_of_100},
				   {"pthread, 1 waiter", one_of_1_posix},
				   {"pthread, 100 waiters", one_of_100_posix}};

	return measure("condition notify", them, sizeof(them) / sizeof(*them), pairs, 20);
}

static int bench_notify_all(int pairs)
{
	struct contender them[] = {{"shmkit", all_of_128}, {"pthread", all_of_128_posix}};

	return measure("condition notify_all", them, sizeof(them) / sizeof(*them), pairs, 5);
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct bench BENCHES[] = {{"condition running", bench_running, 2},
				       {"condition asleep", bench_asleep, 2},
				       {"condition notify", bench_notify, 1},
				       {"condition notify_all", bench_notify_all, 1}};

static int prepare(void)
{
	pthread_mutexattr_t mutex;
	pthread_condattr_t cond;

	shared = shared_memory(sizeof(*shared), 0);
	if (!shared)
		return bad("mmap");
	trips = &shared->trips;
	if (pthread_mutexattr_init(&mutex) || pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED) ||
	    pthread_mutex_init(&shared->posix.mutex, &mutex) || pthread_condattr_init(&cond) ||
	    pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED) ||
	    pthread_cond_init(&shared->posix.condition, &cond)) {
		complain("pthread", "cannot create a mutex and a condition for processes");
		return -1;
	}
	if (shmkit_lock_create(NULL, NULL, &lock) || shmkit_condition_create(NULL, NULL, &condition))
		return refused("create");
	return 0;
}

int main(int argc, char **argv)
{
	return bench_main(argc, argv, BENCHES, sizeof(BENCHES) / sizeof(*BENCHES), prepare);
}
