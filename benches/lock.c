/*
 * Compares locks from C with their peers; this file measures uncontended locks in one process.
 *
 *   lock PAIRS [BENCH...]      prints the samples of each bench as lines of JSON (pairs.h)
 */

#include "lock.h"

#include <fcntl.h>

enum { MANY = 10000, LINE = 64 };

struct peers *peers;
shmkit_lock *lock;
char name[64];

/* --- shared with the other files ------------------------------------------------------------------------------- */

static int make_mutex(pthread_mutex_t *mutex, int robust)
{
	pthread_mutexattr_t how;

	pthread_mutexattr_init(&how);
	pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&how, robust ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED);
	errno = pthread_mutex_init(mutex, &how);
	pthread_mutexattr_destroy(&how);
	return errno ? bad("pthread_mutex_init") : 0;
}

int make_robust(pthread_mutex_t *mutex)
{
	return make_mutex(mutex, 1);
}

pid_t start(void (*body)(void *), void *argument)
{
	pid_t child = fork_helper(0);

	if (child != 0)
		return child;
	body(argument);
	_exit(EXIT_SUCCESS);
}

int reach(atomic_int *word, int wanted)
{
	int64_t limit = now() + (int64_t)60 * 1000000000;

	while (atomic_load(word) < wanted) {
		if (now() > limit) {
			complain("a helper", "no answer within a minute");
			return -1;
		}
		rest_for(50000);
	}
	return 0;
}

void rest_for(int64_t ns)
{
	struct timespec rest = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

	nanosleep(&rest, NULL);
}

/* --- acquire and release --------------------------------------------------------------------------------------- */

static shmkit_rlock *rlock;
/* Adjacent locks in a segment. */
static shmkit_lock **locks;
static char *words;

static inline int exchange(uint64_t *word)
{
	uint64_t free = 0;

	if (!__atomic_compare_exchange_n(word, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return 1;
	return __atomic_exchange_n(word, 0, __ATOMIC_RELEASE) != 1;
}

static inline int ours(shmkit_lock *which)
{
	return shmkit_lock_acquire(which, SHMKIT_FOREVER, 0, NULL) | shmkit_lock_release(which);
}

TURN_OF(turn_ours, ours(lock))
TURN_OF(turn_exchange, exchange(&peers->word))
TURN_OF(turn_bare, bare_acquire(&peers->word) | bare_release(&peers->word))
TURN_OF(turn_normal, pthread_mutex_lock(&peers->normal) | pthread_mutex_unlock(&peers->normal))
TURN_OF(turn_robust, pthread_mutex_lock(&peers->robust) | pthread_mutex_unlock(&peers->robust))
TURN_OF(turn_semaphore, sem_wait(&peers->semaphore) | sem_post(&peers->semaphore))
TURN_OF(turn_recursive, shmkit_rlock_acquire(rlock, SHMKIT_FOREVER, 0, NULL) | shmkit_rlock_release(rlock))
TURN_OF(turn_many, ours(locks[i % MANY]))
TURN_OF(turn_one, ours(locks[0 * i]))
TURN_OF(turn_many_words, exchange((uint64_t *)(void *)(words + i % MANY * LINE)))
TURN_OF(turn_one_word, exchange((uint64_t *)(void *)(words + 0 * i)))

TURN_BY(turn_boost, boost_turn(peers->boost, rounds, now))

static int bench_alone(int pairs)
{
	struct contender them[] = {
		{"shmkit", turn_ours},     {"exchanges, inlined", turn_exchange}, {"exchanges, in a library", turn_bare},
		{"pthread", turn_normal},  {"pthread robust", turn_robust},       {"sem_t", turn_semaphore},
		{"shmkit RLock", turn_recursive}, {"Boost", turn_boost}};
	int count = sizeof(them) / sizeof(*them);

	if (!boost_size())
		skip("alone: Boost.Interprocess", "not installed: libboost-dev");
	return measure("alone", them, boost_size() ? count : count - 1, pairs, 0);
}

/* Ten thousand adjacent locks in one segment, and as many plain words in as many cache lines. */
static int bench_many(int pairs)
{
	struct contender them[] = {
		{"10,000 locks", turn_many}, {"one lock", turn_one}, {"10,000 words", turn_many_words}, {"one word", turn_one_word}};
	shmkit_segment_options how = {.struct_size = sizeof(how), .flags = SHMKIT_SEGMENT_MANAGED};
	shmkit_segment *segment;
	int made = 0, result = -1;
	int64_t begin, first = 0;

	if (shmkit_segment_create(NULL, MANY * LINE, &how, &segment))
		return refused("create");
	locks = calloc(MANY, sizeof(*locks));
	words = shared_memory(MANY * LINE, 0);
	begin = now();
	while (locks && words && made < MANY) {
		if (shmkit_lock_create_at(segment, (uint64_t)made * LINE, NULL, &locks[made])) {
			refused("create_at");
			break;
		}
		if (++made == MANY / 10)
			first = now() - begin;
		else if (made == MANY)
			begin = now() - begin;
	}
	if (made == MANY) {
		print_figure("many", "made", (double)begin / (double)first / 10);
		result = measure("many", them, sizeof(them) / sizeof(*them), pairs, 10 * MANY);
	}
	while (made > 0)
		shmkit_lock_close(locks[--made]);
	free(locks);
	if (words)
		munmap(words, MANY * LINE);
	shmkit_segment_close(segment);
	return result;
}

/* --------------------------------------------------------------------------------------------------------------- */

static const struct bench BENCHES[] = {{"alone", bench_alone, 1},
				       {"many", bench_many, 1},
				       {"contended", bench_contended, 1},
				       {"crowded", bench_crowded, 1},
				       {"handoff", bench_handoff, 2},
				       {"killed", bench_killed, 1},
				       {"waiter", bench_waiter, 1},
				       {"participants", bench_participants, 1}};

static int prepare(void)
{
	snprintf(name, sizeof(name), "shmkit-bench-%d", (int)getpid());
	peers = shared_memory(sizeof(*peers), 0);
	if (!peers)
		return bad("mmap");
	if (make_mutex(&peers->normal, 0) || make_robust(&peers->robust))
		return -1;
	if (sem_init(&peers->semaphore, 1, 1))
		return bad("sem_init");
	if (boost_size() > sizeof(peers->boost)) {
		complain("Boost.Interprocess", "its mutex is larger than expected");
		return -1;
	}
	boost_make(peers->boost);
	if (shmkit_lock_create(NULL, NULL, &lock))
		return refused("create");
	return shmkit_rlock_create(NULL, NULL, &rlock) ? refused("create") : 0;
}

int main(int argc, char **argv)
{
	return bench_main(argc, argv, BENCHES, sizeof(BENCHES) / sizeof(*BENCHES), prepare);
}
