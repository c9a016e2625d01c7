/*
 * What the bench programs share: the measuring, the processes that help, and `main`.
 *
 * Contenders take turns, so that a disturbance of one disturbs the others as much.
 *
 *   sample:  A B C  B C A  C A B ...   turns of about TURN each, until every contender has had SAMPLE
 *   output:  one line of JSON for each sample: the seconds that one round took, by contender;
 *            one for each figure of another kind: a share, a rate
 *
 * A rest comes before each turn. On a busy machine no contender pays for the time that the turn before it used up, and
 * other processes finish their part of a turn outside of any turn.
 *
 * SIGINT, SIGTERM and SIGHUP are checked only between turns, when nothing is left behind. A bench makes what it needs
 * before `measure` and removes it afterwards.
 */

#ifndef PAIRS_H
#define PAIRS_H

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <shmkit.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CONTENDERS = 16 };

/* The length of a turn in ns: long enough that cold caches and reading the clock do not count. */
static const int64_t TURN = 2000000;
/* The rest before a turn, in ns. */
static const long REST = 500000;
/* The time of each contender in a sample, in ns. */
static const int64_t SAMPLE = 10000000;

/* Works for a number of rounds and returns the ns they took, without cleaning up. */
typedef int64_t turn_function(long rounds);

struct contender {
	const char *name;
	turn_function *turn;
};

static inline int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static inline sigset_t stop_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	return set;
}

/* Keeps the signals that end programs until `stopped` looks. */
static inline void hold_signals(void)
{
	sigset_t set = stop_signals();

	sigprocmask(SIG_BLOCK, &set, NULL);
}

/* Says whether a signal asks the program to end. */
static inline int stopped(void)
{
	sigset_t pending, wanted = stop_signals();

	sigpending(&pending);
	for (int number = 1; number < SIGRTMIN; number++)
		if (sigismember(&wanted, number) == 1 && sigismember(&pending, number) == 1)
			return 1;
	return 0;
}

/* --- failures ---------------------------------------------------------------------------------------------------- */

/* Prints what failed and why; the caller then removes what it made and ends the program. */
static inline void complain(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
}

/* Complains of a system call that failed; returns -1. */
static inline int bad(const char *what)
{
	complain(what, strerror(errno));
	return -1;
}

/* Complains of a call of shmkit that failed; returns -1. */
static inline int refused(const char *what)
{
	const char *why = "";

	shmkit_last_error(NULL, NULL, &why);
	complain(what, why);
	return -1;
}

/* --- processes --------------------------------------------------------------------------------------------------- */

/* The processors that this program may use. The first call, which must come before `bind_to` in any process, asks. */
static inline const cpu_set_t *processors(void)
{
	static cpu_set_t all;
	static int known;

	if (!known)
		known = sched_getaffinity(0, sizeof(all), &all) == 0;
	return &all;
}

/* Binds this process to one of the processors. */
static inline void bind_to(int processor)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	for (int at = 0; at < CPU_SETSIZE; at++)
		if (CPU_ISSET(at, processors()) && processor-- == 0)
			CPU_SET(at, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

static inline void unbind(void)
{
	sched_setaffinity(0, sizeof(cpu_set_t), processors());
}

/* Maps zeros that forked children share; returns NULL on failure. flags: 0 or MAP_POPULATE. */
static inline void *shared_memory(size_t size, int flags)
{
	void *made = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | flags, -1, 0);

	return made == MAP_FAILED ? NULL : made;
}

/*
 * Forks a helper. It is killed when this process ends, and after so many seconds unless that is 0. Returns 0 in the
 * helper, its pid in this process, or -1.
 */
static inline pid_t fork_helper(unsigned seconds)
{
	pid_t parent = getpid(), child = fork();

	if (child != 0)
		return child < 0 ? bad("fork") : child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(seconds);
	if (getppid() != parent)
		_exit(EXIT_FAILURE);
	return 0;
}

/* Kills a helper, if there is one, and waits for its end. */
static inline void finish(pid_t child)
{
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
}

/* --- output ------------------------------------------------------------------------------------------------------ */

/* Prints one sample. */
static inline void tell(const char *bench, const struct contender *them, int count, int pair, long rounds,
			const double *seconds)
{
	printf("{\"bench\": \"%s\", \"pair\": %d, \"rounds\": %ld, \"seconds\": {", bench, pair, rounds);
	for (int i = 0; i < count; i++)
		printf("%s\"%s\": %.12g", i ? ", " : "", them[i].name, seconds[i]);
	printf("}}\n");
	fflush(stdout);
}

/* Prints one sample of a figure that is not the time of a round. */
static inline void tell_figure(const char *bench, const char *name, double value)
{
	printf("{\"bench\": \"%s\", \"figures\": {\"%s\": %.12g}}\n", bench, name, value);
	fflush(stdout);
}

/* Prints why a bench cannot be run here. */
static inline void skip(const char *bench, const char *why)
{
	printf("{\"bench\": \"%s\", \"skipped\": \"%s\"}\n", bench, why);
	fflush(stdout);
}

/* --- measuring --------------------------------------------------------------------------------------------------- */

/*
 * Makes a turn of an expression that is evaluated in each round; it is nonzero on failure. `i` is the number of the
 * round.
 */
#define TURN_OF(NAME, ROUND)                                                                                           \
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

/* Makes a turn of an expression that returns the ns that all `rounds` took, or a negative number on failure. */
#define TURN_BY(NAME, TOOK)                                                                                            \
	static int64_t NAME(long rounds)                                                                                   \
	{                                                                                                                  \
		(void)rounds;                                                                                                  \
		return TOOK;                                                                                                   \
	}

static inline int64_t rest_and(turn_function *turn, long rounds)
{
	struct timespec rest = {.tv_nsec = REST};

	nanosleep(&rest, NULL);
	return turn(rounds);
}

/*
 * Measures `count` contenders in `pairs` samples and prints them. With `rounds` 0 it finds out how many rounds fill a
 * turn. A turn that fails returns a negative number. Returns 0, or -1 if a turn failed or a signal came.
 */
static inline int measure(const char *bench, const struct contender *them, int count, int pairs, long rounds)
{
	int64_t least = 0;

	/* The first turns warm up and show how long a round takes. */
	for (long tried = rounds ? rounds : 1;; tried *= 2) {
		int64_t shortest = INT64_MAX;

		for (int i = 0; i < count; i++) {
			int64_t took = rest_and(them[i].turn, tried);

			if (took < 0 || stopped())
				return -1;
			shortest = took < shortest ? took : shortest;
		}
		if (rounds || shortest >= TURN) {
			rounds = tried;
			least = shortest > 0 ? shortest : 1;
			break;
		}
	}
	for (int pair = 0; pair < pairs; pair++) {
		int64_t total[CONTENDERS] = {0};
		double seconds[CONTENDERS];
		long turns = 0;

		do {
			for (int i = 0; i < count; i++) {
				/* Each contender comes first as often as the others. */
				int who = (int)((i + turns + pair) % count);
				int64_t took = rest_and(them[who].turn, rounds);

				if (took < 0)
					return -1;
				total[who] += took;
			}
			turns++;
			if (stopped())
				return -1;
		} while (turns * least < SAMPLE);
		for (int i = 0; i < count; i++)
			seconds[i] = (double)total[i] / 1e9 / (double)turns / (double)rounds;
		tell(bench, them, count, pair, turns * rounds, seconds);
	}
	return 0;
}

/* --- main -------------------------------------------------------------------------------------------------------- */

struct bench {
	const char *name;
	int (*run)(int pairs);
	/* On a machine with fewer processors the bench is skipped. */
	int processors;
};

static inline int wants(int argc, char **argv, const char *bench)
{
	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], bench) == 0)
			return 1;
	return argc == 2;
}

/* The whole of a program's `main`: calls `prepare` and runs the benches that the arguments name, or all. */
static inline int bench_main(int argc, char **argv, const struct bench *benches, size_t count, int (*prepare)(void))
{
	int pairs = argc > 1 ? atoi(argv[1]) : 0;

	hold_signals();
	unsetenv("SHMKIT_DIR");
	if (pairs < 1) {
		fprintf(stderr, "usage: %s PAIRS [BENCH...]\n", argv[0]);
		return EXIT_FAILURE;
	}
	if (prepare())
		return EXIT_FAILURE;
	for (size_t i = 0; i < count; i++) {
		if (!wants(argc, argv, benches[i].name))
			continue;
		if (CPU_COUNT(processors()) < benches[i].processors)
			skip(benches[i].name, "there is one processor");
		else if (benches[i].run(pairs))
			return stopped() ? 128 + SIGINT : EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}

#endif
