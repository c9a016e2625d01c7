/*
 * Conditions from C, beside pthread_cond_t and bare futexes: from one process to another and back; many waiters.
 *
 *   condition PAIRS [BENCH...]      prints the samples of each bench as lines of JSON (pairs.h)
 *
 * Round trips are those of trips.h. To say, a process takes the lock, sets the turn of the other one and notifies; to
 * hear, it takes the lock and waits for its own turn.
 *
 * Many waiters are threads. For `notify` the call alone counts, while all threads sleep. For `notify_all` the time
 * counts until the last thread has had the lock again.
 */

#include "trips.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>

enum { MOST = 128 };

static struct shared {
	struct {
		_Alignas(64) pthread_mutex_t mutex;
		_Alignas(64) pthread_cond_t condition;
	} posix;
	/* Whose turn it is: under the lock, or a futex. */
	_Alignas(64) atomic_uint turn[BOTH];
	struct trips trips;
} *shared;

/* Ours, without a name: forked children have them too. */
static shmkit_lock *lock;
static shmkit_condition *condition;

/* --- the rivals -------------------------------------------------------------------------------------------------- */

static int say_ours(int which)
{
	int failed = shmkit_lock_acquire(lock, SHMKIT_FOREVER, 0, NULL);

	shared->turn[which] = 1;
	failed |= shmkit_condition_notify(condition, lock, 1);
	return failed | shmkit_lock_release(lock);
}

static int hear_ours(int which)
{
	int failed = shmkit_lock_acquire(lock, SHMKIT_FOREVER, 0, NULL);

	while (!failed && !shared->turn[which])
		failed |= shmkit_condition_wait(condition, lock, SHMKIT_FOREVER, 0, NULL);
	shared->turn[which] = 0;
	return failed | shmkit_lock_release(lock);
}

static int say_posix(int which)
{
	int failed = pthread_mutex_lock(&shared->posix.mutex);

	shared->turn[which] = 1;
	failed |= pthread_cond_signal(&shared->posix.condition);
	return failed | pthread_mutex_unlock(&shared->posix.mutex);
}

static int hear_posix(int which)
{
	int failed = pthread_mutex_lock(&shared->posix.mutex);

	while (!failed && !shared->turn[which])
		failed |= pthread_cond_wait(&shared->posix.condition, &shared->posix.mutex);
	shared->turn[which] = 0;
	return failed | pthread_mutex_unlock(&shared->posix.mutex);
}

/* What the kernel can do: it sleeps at once and always wakes. */
static int say_futex(int which)
{
	atomic_store(&shared->turn[which], 1);
	return syscall(SYS_futex, &shared->turn[which], FUTEX_WAKE, 1, NULL, NULL, 0) < 0;
}

/* With a deadline, after which it checks the word again, as ours does in case a wake was lost. */
static int hear_futex(int which)
{
	static const struct timespec slice = {.tv_nsec = 1000000};

	while (!atomic_exchange(&shared->turn[which], 0))
		syscall(SYS_futex, &shared->turn[which], FUTEX_WAIT, 0, &slice, NULL, 0);
	return 0;
}

static const struct rival OURS = {say_ours, hear_ours};
static const struct rival POSIX = {say_posix, hear_posix};
static const struct rival FUTEXES = {say_futex, hear_futex};

/* --- two processes ----------------------------------------------------------------------------------------------- */

static int answer(long rounds, int64_t *took)
{
	int failed = 0;

	for (long i = 0; i < rounds && !failed; i++)
		failed |= hear(THERE, took) | say(BACK);
	return failed;
}

static int ask(long rounds, int64_t *took)
{
	int failed = 0;

	for (long i = 0; i < rounds && !failed; i++)
		failed |= say(THERE) | hear(BACK, took);
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

/* Threads that wait again and again, until `over`. */
static struct {
	pthread_t threads[MOST];
	int count;
	atomic_int over, returned, failed;
	int posix;
	/* Under the lock: how many wait in pthread's condition, and how often all were notified. */
	volatile int waiting;
} crowd;

static void *wait_again(void *unused)
{
	while (!crowd.over) {
		int failed = crowd.posix ? pthread_mutex_lock(&shared->posix.mutex)
					 : shmkit_lock_acquire(lock, SHMKIT_FOREVER, 0, NULL);

		crowd.waiting++;
		if (!crowd.over)
			failed |= crowd.posix ? pthread_cond_wait(&shared->posix.condition, &shared->posix.mutex)
					      : shmkit_condition_wait(condition, lock, SHMKIT_FOREVER, 0, NULL);
		crowd.waiting--;
		failed |= crowd.posix ? pthread_mutex_unlock(&shared->posix.mutex) : shmkit_lock_release(lock);
		if (failed)
			atomic_store(&crowd.failed, 1);
		atomic_fetch_add(&crowd.returned, 1);
	}
	return unused;
}

/* Takes the lock once `count` threads wait and have gone to sleep; returns nonzero where that fails. */
static int take_when_all_wait(void)
{
	static const struct timespec while_they_fall_asleep = {.tv_nsec = 200000};

	for (;;) {
		int failed = nanosleep(&while_they_fall_asleep, NULL);
		int all;

		failed |= crowd.posix ? pthread_mutex_lock(&shared->posix.mutex)
				      : shmkit_lock_acquire(lock, SHMKIT_FOREVER, 0, NULL);
		all = crowd.waiting == crowd.count;

		if (failed || crowd.failed)
			return -1;
		if (all)
			return 0;
		if (crowd.posix)
			pthread_mutex_unlock(&shared->posix.mutex);
		else
			shmkit_lock_release(lock);
	}
}

static int give(void)
{
	return crowd.posix ? pthread_mutex_unlock(&shared->posix.mutex) : shmkit_lock_release(lock);
}

static int notify(int all)
{
	if (crowd.posix)
		return all ? pthread_cond_broadcast(&shared->posix.condition)
			   : pthread_cond_signal(&shared->posix.condition);
	return all ? shmkit_condition_notify_all(condition, lock) : shmkit_condition_notify(condition, lock, 1);
}

/* Notifies so often, one or all of `count` threads; returns the ns that count. */
static int64_t notifications(long rounds, int count, int posix, int all)
{
	int64_t took = 0;
	int failed = 0;

	crowd.count = count;
	crowd.posix = posix;
	crowd.over = crowd.returned = crowd.failed = 0;
	for (int i = 0; i < count; i++)
		if (pthread_create(&crowd.threads[i], NULL, wait_again, NULL)) {
			complain("pthread_create", "no thread");
			exit(EXIT_FAILURE);
		}
	for (long i = 0; i < rounds && !failed; i++) {
		int64_t begin;

		failed |= take_when_all_wait();
		crowd.returned = 0;
		begin = now();
		failed |= notify(all);
		if (!all)
			took += now() - begin;
		failed |= give();
		if (!all)
			continue;
		while (!failed && crowd.returned < count)
			sched_yield();
		took += now() - begin;
	}
	failed |= take_when_all_wait();
	crowd.over = 1;
	failed |= notify(1) | give();
	for (int i = 0; i < count; i++)
		pthread_join(crowd.threads[i], NULL);
	if (!failed && !crowd.failed)
		return took;
	complain("a notification", "a call has failed");
	return -1;
}

#define CROWD(NAME, COUNT, POSIX, ALL) TURN_BY(NAME, notifications(rounds, COUNT, POSIX, ALL))

CROWD(one_of_1, 1, 0, 0)
CROWD(one_of_100, 100, 0, 0)
CROWD(one_of_1_posix, 1, 1, 0)
CROWD(one_of_100_posix, 100, 1, 0)
CROWD(all_of_128, 128, 0, 1)
CROWD(all_of_128_posix, 128, 1, 1)

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
		complain("pthread", "no mutex or condition for processes");
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
