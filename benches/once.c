/*
 * Once from C, beside its peers: what it costs to find that it is done.
 *
 *   once PAIRS [BENCH...]      prints the samples of each bench as lines of JSON (pairs.h)
 */

#include "pairs.h"

#include <pthread.h>
#include <shmkit.h>

static shmkit_once *once;
static shmkit_lock *lock;
/* What is guarded by the lock where there is no once. */
static volatile int flag = 1;
/* That of threads: it knows nothing of other processes. */
static pthread_once_t threads = PTHREAD_ONCE_INIT;

static void nothing(void)
{
}

static int begin(void)
{
	uint32_t mine = 1;

	return shmkit_once_begin(once, SHMKIT_FOREVER, 0, &mine, NULL) | (int)mine;
}

static int is_done(void)
{
	uint32_t done = 0;

	return shmkit_once_is_done(once, &done) | !done;
}

static int flag_under_lock(void)
{
	int failed = shmkit_lock_acquire(lock, SHMKIT_FOREVER, 0, NULL) | !flag;

	return failed | shmkit_lock_release(lock);
}

/* Makes a turn of what is done each round; it returns nonzero where it fails. */
#define TURN(NAME, ROUND)                                                                                              \
	static int64_t NAME(long rounds)                                                                                   \
	{                                                                                                                  \
		int failed = 0;                                                                                                \
		int64_t start = now();                                                                                         \
                                                                                                                       \
		for (long i = 0; i < rounds; i++)                                                                              \
			failed |= ROUND;                                                                                           \
		start = now() - start;                                                                                         \
		if (!failed)                                                                                                   \
			return start;                                                                                              \
		complain(#NAME, "a round failed");                                                                             \
		return -1;                                                                                                     \
	}

TURN(turn_begin, begin())
TURN(turn_is_done, is_done())
TURN(turn_threads, pthread_once(&threads, nothing))
TURN(turn_lock, flag_under_lock())

int main(int argc, char **argv)
{
	struct contender them[] = {{"shmkit begin", turn_begin},
				   {"shmkit is_done", turn_is_done},
				   {"pthread_once", turn_threads},
				   {"a flag under a lock", turn_lock}};
	int pairs = argc > 1 ? atoi(argv[1]) : 0;
	uint32_t mine = 0;

	hold_signals();
	unsetenv("SHMKIT_DIR");
	if (pairs < 1) {
		fprintf(stderr, "usage: %s PAIRS [BENCH...]\n", argv[0]);
		return EXIT_FAILURE;
	}
	if (shmkit_once_create(NULL, NULL, &once) || shmkit_lock_create(NULL, NULL, &lock) ||
	    shmkit_once_begin(once, SHMKIT_NOWAIT, 0, &mine, NULL) || shmkit_once_done(once)) {
		const char *why = "";

		shmkit_last_error(NULL, NULL, &why);
		complain("a once that is done", why);
		return EXIT_FAILURE;
	}
	if (measure("once done", them, sizeof(them) / sizeof(*them), pairs, 0))
		return stopped() ? 128 + SIGINT : EXIT_FAILURE;
	shmkit_once_close(once);
	shmkit_lock_close(lock);
	return EXIT_SUCCESS;
}
