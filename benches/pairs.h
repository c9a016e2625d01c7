/*
 * Shared by the bench programs: measuring, helper processes, and `main`.
 *
 * Contenders take turns, so that a disturbance affects all of them alike.
 *
 *   sample:  A B C  B C A  C A B ...   turns of about TURN each, until every contender has had SAMPLE
 *   output:  one line of JSON for each sample: the seconds of one round, by contender;
 *            one line for each other figure: a share, a rate
 *
 * A rest precedes each turn. It separates a contender from the processor time that the previous turn used, and lets
 * helpers finish their part of a turn outside the measured time.
 *
 * SIGINT, SIGTERM and SIGHUP are checked only between turns, so that a bench can clean up. A bench creates its objects
 * before `measure` and removes them afterwards.
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

/* The length of a turn in ns: cold caches and the clock are negligible in it. */
static const int64_t TURN = 2000000;
/* The rest before a turn, in ns. */
static const long REST = 500000;
/* The time of each contender in a sample, in ns. */
static const int64_t SAMPLE = 10000000;

/* Runs a number of rounds and returns their ns, without the clean-up. */
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

/* Blocks the stop signals; `stopped` checks for them. */
static inline void hold_signals(void)
{
	sigset_t set = stop_signals();

	sigprocmask(SIG_BLOCK, &set, NULL);
}

/* Returns whether a stop signal is pending. */
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

/* Prints what failed and why; the caller then cleans up and ends the program. */
static inline void complain(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
}

/* Prints the error of a failed system call; returns -1. */
static inline int bad(const char *what)
{
	complain(what, strerror(errno));
	return -1;
}

/* Prints the error of a failed shmkit call; returns -1. */
static inline int refused(const char *what)
{
	const char *why = "";

	shmkit_last_error(NULL, NULL, &why);
	complain(what, why);
	return -1;
}

/* --- processes --------------------------------------------------------------------------------------------------- */

/* Returns the processors that this program may use. The first call must precede any `bind_to`. */
static inline const cpu_set_t *processors(void)
{
	static cpu_set_t all;
	static int known;

	if (!known)
		known = sched_getaffinity(0, sizeof(all), &all) == 0;
	return &all;
}

/* Binds this process to one of the processors, by its index. */
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
 * Forks a helper. It is killed when this process ends, and after `seconds` seconds unless that is 0. Returns 0 in the
 * helper, the helper's pid in this process, or -1.
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

/* Kills a helper, unless `child` is 0 or negative, and waits for its end. */
static inline void finish(pid_t child)
{
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
}

/* --- output ------------------------------------------------------------------------------------------------------ */

/* Prints one sample. */
static inline void print_sample(const char *bench, const struct contender *them, int count, int pair, long rounds,
			const double *seconds)
{
	printf("{\"bench\": \"%s\", \"pair\": %d, \"rounds\": %ld, \"seconds\": {", bench, pair, rounds);
	for (int i = 0; i < count; i++)
		printf("%s\"%s\": %.12g", i ? ", " : "", them[i].name, seconds[i]);
	printf("}}\n");
	fflush(stdout);
}

/* Prints one sample of a figure that is not the time of a round. */
static inline void print_figure(const char *bench, const char *name, double value)
{
	printf("{\"bench\": \"%s\", \"figures\": {\"%s\": %.12g}}\n", bench, name, value);
	fflush(stdout);
}

/* Prints why a bench cannot run here. */
static inline void skip(const char *bench, const char *why)
{
	printf("{\"bench\": \"%s\", \"skipped\": \"%s\"}\n", bench, why);
	fflush(stdout);
}

/* --- measuring --------------------------------------------------------------------------------------------------- */

/*
 * Defines a turn that evaluates an expression in each round. The expression is nonzero on failure; `i` is the number
 * of the round.
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

/* Defines a turn from an expression that yields the ns of all `rounds`, or a negative number on failure. */
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
 * Measures `count` contenders in `pairs` samples and prints them. With `rounds` 0 it determines how many rounds fill a
 * turn. Returns 0, or -1 if a turn failed (returned a negative number) or a stop signal is pending.
 */
static inline int measure(const char *bench, const struct contender *them, int count, int pairs, long rounds)
{
	int64_t least = 0;

	/* The first turns warm up and determine the length of a round. */
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
				/* Each contender is first equally often. */
				int index = (int)((i + turns + pair) % count);
				int64_t took = rest_and(them[index].turn, rounds);

				if (took < 0)
					return -1;
				total[index] += took;
			}
			turns++;
			if (stopped())
				return -1;
		} while (turns * least < SAMPLE);
		for (int i = 0; i < count; i++)
			seconds[i] = (double)total[i] / 1e9 / (double)turns / (double)rounds;
		print_sample(bench, them, count, pair, turns * rounds, seconds);
	}
	return 0;
}

/* --- main -------------------------------------------------------------------------------------------------------- */

struct bench {
	const char *name;
	int (*run)(int pairs);
	/* The bench is skipped on a machine with fewer processors. */
	int processors;
};

static inline int wants(int argc, char **argv, const char *bench)
{
	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], bench) == 0)
			return 1;
	return argc == 2;
}

/* Implements `main`: calls `prepare` and runs the benches that the arguments name, or all. */
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
