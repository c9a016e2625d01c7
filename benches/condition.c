/*
 * Conditions from C, beside pthread_cond_t and bare futexes: from one process to another and back; many waiters.
 *
 *   condition PAIRS [BENCH...]      prints the samples of each bench as lines of JSON (pairs.h)
 *
 * Round trip: a turn forks a process that answers, and each of the two is bound to a processor of its own. Each takes the
 * lock, says that it is the other one's turn, notifies, and waits for its own. Running: at once, so that both look for
 * what the other one does. Asleep: each waits a while before it notifies, so that the other one sleeps, and what counts
 * is the time from before the lock is taken to notify until the other one has come back and given the lock back.
 *
 * Many: threads that wait. Of `notify` counts the call alone, with all asleep; of `notify_all` the time until the last
 * thread has had the lock again.
 */

#include "pairs.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <shmkit.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THERE, BACK, BOTH, MOST = 128 };

/* How long one waits before it wakes the other, in ns. */
static const int64_t ASLEEP = 300000;
/* Within so many seconds a turn is over, or something is wrong. */
static const unsigned PATIENCE = 60;

static struct shared {
	struct {
		_Alignas(64) pthread_mutex_t mutex;
		_Alignas(64) pthread_cond_t condition;
	} posix;
	/* Whose turn it is: under the lock, or a futex. */
	_Alignas(64) atomic_uint turn[BOTH];
	/* When somebody began to notify, where that counts. */
	_Alignas(64) volatile int64_t begun;
	/* The other one is there; it has failed; how long its waits took. */
	_Alignas(64) atomic_int ready, failed;
	volatile int64_t took;
} *shared;

/* Ours, without a name: forked children have them too. */
static shmkit_lock *lock;
static shmkit_condition *condition;

/* --- the rivals -------------------------------------------------------------------------------------------------- */

struct rival {
	int (*say)(int which);
	int (*hear)(int which);
};

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

/* What the kernel can do: a sleep at once, and a wake always. */
static int say_futex(int which)
{
	atomic_store(&shared->turn[which], 1);
	return syscall(SYS_futex, &shared->turn[which], FUTEX_WAKE, 1, NULL, NULL, 0) < 0;
}

/* As one does who looks again after a while, as ours does, whatever wakes were lost. */
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

static const struct rival *rival;
/* How long each waits before it notifies. */
static int64_t pause_ns;

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

static int say(int which)
{
	if (pause_ns) {
		for (int64_t begin = now(); now() - begin < pause_ns;)
			;
		shared->begun = now();
	}
	return rival->say(which);
}

/* Waits for one; adds what that took to `took` where that counts. */
static int hear(int which, int64_t *took)
{
	int failed = rival->hear(which);

	if (pause_ns)
		*took += now() - shared->begun;
	return failed;
}

static void answer(long rounds)
{
	int64_t took = 0;
	int failed = 0;

	bind_to(1);
	atomic_store(&shared->ready, 1);
	for (long i = 0; i < rounds && !failed; i++)
		failed |= hear(THERE, &took) | say(BACK);
	shared->took = took;
	if (failed)
		atomic_store(&shared->failed, 1);
}

/* Goes there and back so often; returns the ns that took. */
static int64_t round_trips(long rounds)
{
	pid_t parent = getpid(), child;
	int64_t begin, took = 0;
	int failed = 0, status = 0;

	atomic_store(&shared->ready, 0);
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(PATIENCE);
		if (getppid() == parent)
			answer(rounds);
		_exit(EXIT_SUCCESS);
	}
	if (child < 0) {
		complain("fork", strerror(errno));
		return -1;
	}
	bind_to(0);
	while (!atomic_load(&shared->ready))
		sched_yield();
	begin = now();
	for (long i = 0; i < rounds && !failed; i++)
		failed |= say(THERE) | hear(BACK, &took);
	begin = now() - begin;
	if (failed)
		kill(child, SIGKILL);
	waitpid(child, &status, 0);
	sched_setaffinity(0, sizeof(processors), &processors);
	if (failed || status || atomic_load(&shared->failed)) {
		complain("a round trip", "a call has failed, or the other process has died");
		return -1;
	}
	return pause_ns ? took + shared->took : begin;
}

static int64_t trips_ours(long rounds)
{
	rival = &OURS;
	return round_trips(rounds);
}

static int64_t trips_posix(long rounds)
{
	rival = &POSIX;
	return round_trips(rounds);
}

static int64_t trips_futexes(long rounds)
{
	rival = &FUTEXES;
	return round_trips(rounds);
}

static int bench_trips(const char *name, int pairs, int64_t pause, long rounds)
{
	struct contender them[] = {
		{"shmkit", trips_ours}, {"pthread", trips_posix}, {"raw futex, deadline", trips_futexes}};

	pause_ns = pause;
	if (CPU_COUNT(&processors) > 1)
		return measure(name, them, sizeof(them) / sizeof(*them), pairs, rounds);
	skip(name, "there is one processor");
	return 0;
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

#define CROWD(NAME, COUNT, POSIX, ALL)                                                                                 \
	static int64_t NAME(long rounds)                                                                                   \
	{                                                                                                                  \
		return notifications(rounds, COUNT, POSIX, ALL);                                                               \
	}

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

static const struct {
	const char *name;
	int (*run)(int pairs);
} BENCHES[] = {{"condition running", bench_running},
	       {"condition asleep", bench_asleep},
	       {"condition notify", bench_notify},
	       {"condition notify_all", bench_notify_all}};

static int prepare(void)
{
	pthread_mutexattr_t mutex;
	pthread_condattr_t cond;
	const char *why = "";

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		complain("mmap", strerror(errno));
		return -1;
	}
	if (pthread_mutexattr_init(&mutex) || pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED) ||
	    pthread_mutex_init(&shared->posix.mutex, &mutex) || pthread_condattr_init(&cond) ||
	    pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED) ||
	    pthread_cond_init(&shared->posix.condition, &cond)) {
		complain("pthread", "no mutex or condition for processes");
		return -1;
	}
	if (shmkit_lock_create(NULL, NULL, &lock) || shmkit_condition_create(NULL, NULL, &condition)) {
		shmkit_last_error(NULL, NULL, &why);
		complain("create", why);
		return -1;
	}
	return 0;
}

int main(int count, char **arguments)
{
	int pairs = count > 1 ? atoi(arguments[1]) : 0, failed = 0;

	if (pairs < 1) {
		fprintf(stderr, "usage: %s PAIRS [BENCH...]\n", arguments[0]);
		return EXIT_FAILURE;
	}
	sched_getaffinity(0, sizeof(processors), &processors);
	hold_signals();
	if (prepare())
		return EXIT_FAILURE;
	for (size_t bench = 0; bench < sizeof(BENCHES) / sizeof(*BENCHES) && !failed; bench++) {
		int wanted = count == 2;

		for (int i = 2; i < count; i++)
			wanted |= strcmp(arguments[i], BENCHES[bench].name) == 0;
		if (wanted)
			failed = BENCHES[bench].run(pairs);
	}
	shmkit_condition_close(condition);
	shmkit_lock_close(lock);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
