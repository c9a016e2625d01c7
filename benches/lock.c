/*
 * Locks from C, beside their peers; here those of one process that nobody else wants.
 *
 *   lock PAIRS [BENCH...]      prints the samples of each bench as lines of JSON (pairs.h)
 */

#include "lock.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MANY = 10000, LINE = 64 };

struct peers *peers;
shmkit_lock *lock;
char name[64];

/* --- what the other files use too ------------------------------------------------------------------------------- */

int bad(const char *what)
{
	complain(what, strerror(errno));
	return -1;
}

int refused(const char *what)
{
	const char *why = "";

	shmkit_last_error(NULL, NULL, &why);
	complain(what, why);
	return -1;
}

void *shared_memory(size_t size)
{
	void *made = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return made == MAP_FAILED ? NULL : made;
}

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
	pid_t parent = getpid(), child = fork();

	if (child != 0)
		return child < 0 ? bad("fork") : child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == parent)
		body(argument);
	_exit(EXIT_SUCCESS);
}

void finish(pid_t child)
{
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
}

int reach(atomic_int *word, int wanted)
{
	int64_t limit = now() + (int64_t)60 * 1000000000;

	while (atomic_load(word) < wanted) {
		if (now() > limit) {
			complain("a helper", "it has not answered for a minute");
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
/* In a segment, side by side. */
static shmkit_lock **locks;
static char *words;

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

TURN(turn_ours, ours(lock))
TURN(turn_exchange, exchange(&peers->word))
TURN(turn_bare, bare_acquire(&peers->word) | bare_release(&peers->word))
TURN(turn_normal, pthread_mutex_lock(&peers->normal) | pthread_mutex_unlock(&peers->normal))
TURN(turn_robust, pthread_mutex_lock(&peers->robust) | pthread_mutex_unlock(&peers->robust))
TURN(turn_semaphore, sem_wait(&peers->semaphore) | sem_post(&peers->semaphore))
TURN(turn_recursive, shmkit_rlock_acquire(rlock, SHMKIT_FOREVER, 0, NULL) | shmkit_rlock_release(rlock))
TURN(turn_many, ours(locks[i % MANY]))
TURN(turn_one, ours(locks[0 * i]))
TURN(turn_many_words, exchange((uint64_t *)(void *)(words + i % MANY * LINE)))
TURN(turn_one_word, exchange((uint64_t *)(void *)(words + 0 * i)))

static int64_t turn_boost(long rounds)
{
	return boost_turn(peers->boost, rounds, now);
}

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

/* Ten thousand in one segment, side by side; beside them as many bare words in as many cache lines. */
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
	words = shared_memory(MANY * LINE);
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
		tell_figure("many", "made", (double)begin / (double)first / 10);
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

static const struct {
	const char *name;
	int (*run)(int pairs);
} BENCHES[] = {{"alone", bench_alone},   {"many", bench_many},     {"contended", bench_contended},
	       {"crowded", bench_crowded}, {"handoff", bench_handoff}, {"killed", bench_killed},
	       {"waiter", bench_waiter},   {"participants", bench_participants}};

static int prepare(void)
{
	peers = shared_memory(sizeof(*peers));
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
	snprintf(name, sizeof(name), "shmkit-bench-%d", (int)getpid());
	if (pairs < 1) {
		fprintf(stderr, "usage: %s PAIRS [BENCH...]\n", argv[0]);
		return EXIT_FAILURE;
	}
	if (prepare())
		return EXIT_FAILURE;
	for (size_t i = 0; i < sizeof(BENCHES) / sizeof(*BENCHES); i++)
		if (wants(argc, argv, BENCHES[i].name) && BENCHES[i].run(pairs))
			return stopped() ? 128 + SIGINT : EXIT_FAILURE;
	shmkit_rlock_close(rlock);
	shmkit_lock_close(lock);
	return EXIT_SUCCESS;
}
