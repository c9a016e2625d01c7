/*
 * Measures contenders that take turns, so that whatever disturbs one of them disturbs the others as much.
 *
 *   sample:  A B C  B C A  C A B ...   turns of about TURN each, until every contender has had SAMPLE
 *   output:  one line of JSON for each sample: the seconds that one round took, by contender;
 *            one for each figure of another kind: a share, a rate
 *
 * A rest comes before each turn, so that on a busy machine none pays for the time that the one before it has used up,
 * and what other processes have still to do for one is done in nobody's turn.
 *
 * SIGINT, SIGTERM and SIGHUP are looked at only between turns, when nothing is left behind. What a bench needs around
 * its turns it makes before `measure` and removes after it.
 */

#ifndef PAIRS_H
#define PAIRS_H

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CONTENDERS = 16 };

/* The length of a turn in ns: long enough that caches gone cold and reading the clock do not count. */
static const int64_t TURN = 2000000;
/* The rest before it. */
static const long REST = 500000;
/* What each contender gets in a sample, in ns. */
static const int64_t SAMPLE = 10000000;

/* Works for a number of rounds and returns the ns they took, without what it had to tidy up. */
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

static inline int64_t rest_and(turn_function *turn, long rounds)
{
	struct timespec rest = {.tv_nsec = REST};

	nanosleep(&rest, NULL);
	return turn(rounds);
}

/* Says whether somebody wants the program to end. */
static inline int stopped(void)
{
	sigset_t pending, wanted = stop_signals();

	sigpending(&pending);
	for (int number = 1; number < SIGRTMIN; number++)
		if (sigismember(&wanted, number) == 1 && sigismember(&pending, number) == 1)
			return 1;
	return 0;
}

/* Ends the program with a sentence, after a bench has removed what it made. */
static inline void complain(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
}

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

/* Prints one sample of a figure that is no time of a round. */
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

/*
 * Measures `count` contenders in `pairs` samples and prints them. With `rounds` 0 it finds out how many rounds fill a
 * turn. A turn that fails returns a negative number. Returns 0, or -1 where a turn failed or a signal came.
 */
static inline int measure(const char *bench, const struct contender *them, int count, int pairs, long rounds)
{
	int64_t least = 0;

	/* The first turns warm up; they also say how long a round takes. */
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
				/* Each comes first as often as the others. */
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

#endif
