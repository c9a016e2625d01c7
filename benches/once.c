/*
 * Compares once flags from C with their peers: the cost of finding that the work is done.
 *
 *   once PAIRS [BENCH...]      prints the samples of each bench as lines of JSON (pairs.h)
 */

#include "pairs.h"

#include <pthread.h>

static shmkit_once *once;
static shmkit_lock *lock;
/* The flag that the lock guards. */
static volatile int flag = 1;
/* The peer, which works only between threads. */
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

TURN_OF(turn_begin, begin())
TURN_OF(turn_is_done, is_done())
TURN_OF(turn_threads, pthread_once(&threads, nothing))
TURN_OF(turn_lock, flag_under_lock())

static int bench_done(int pairs)
{
	struct contender them[] = {{"shmkit begin", turn_begin},
				   {"shmkit is_done", turn_is_done},
				   {"pthread_once", turn_threads},
				   {"a flag under a lock", turn_lock}};

	return measure("once done", them, sizeof(them) / sizeof(*them), pairs, 0);
}

static const struct bench BENCHES[] = {{"once done", bench_done, 1}};

static int prepare(void)
{
	uint32_t mine = 0;

	if (shmkit_once_create(NULL, NULL, &once) || shmkit_lock_create(NULL, NULL, &lock) ||
	    shmkit_once_begin(once, SHMKIT_NOWAIT, 0, &mine, NULL) || shmkit_once_done(once))
		return refused("a once that is done");
	return 0;
}

int main(int argc, char **argv)
{
	return bench_main(argc, argv, BENCHES, sizeof(BENCHES) / sizeof(*BENCHES), prepare);
}
