/*
 * Round trips between two processes, each bound to a processor of its own. A turn forks the process that answers.
 *
 *   | this process: `ask`           | its helper: `answer`          |
 *   |-------------------------------|-------------------------------|
 *   | say THERE                     | hear THERE                    |
 *   | hear BACK                     | say BACK                      |
 *
 * Running: without a pause, so that both processes spin; a turn takes the time of all round trips. Asleep: each process
 * pauses before it says, so that the other one sleeps; a turn takes the times from before each `say` to after the
 * `hear` that it ends.
 */

#ifndef TRIPS_H
#define TRIPS_H

#include "pairs.h"

#include <stdatomic.h>

enum { THERE, BACK, BOTH };

/* The pause before a process says, where the other one is to sleep, in ns. */
static const int64_t ASLEEP = 300000;
/* No turn takes so many seconds unless something is wrong. */
static const unsigned PATIENCE = 60;

/* What the two processes share, beside the rivals. */
struct trips {
	/* When the last `say` began, if there is a pause. */
	_Alignas(64) volatile int64_t begun;
	/* The helper is there; it has failed; how long its waits took. */
	_Alignas(64) atomic_int ready, failed;
	volatile int64_t took;
};

/* Calls return nonzero on failure. `hear` takes back what was said, so that it can be said again. */
struct rival {
	int (*say)(int which);
	int (*hear)(int which);
};

/* In shared memory; the program sets it. */
static struct trips *trips;
static const struct rival *rival;
static int64_t pause_ns;

/* The loops of the two processes, which the program defines; they return nonzero on failure. */
static int ask(long rounds, int64_t *took);
static int answer(long rounds, int64_t *took);

static int say(int which)
{
	if (pause_ns) {
		for (int64_t begin = now(); now() - begin < pause_ns;)
			;
		trips->begun = now();
	}
	return rival->say(which);
}

/* With a pause, adds to `took` the time since the other process began to say. */
static int hear(int which, int64_t *took)
{
	int failed = rival->hear(which);

	if (pause_ns)
		*took += now() - trips->begun;
	return failed;
}

/* Goes there and back `rounds` times; returns the ns that took. */
static int64_t round_trips(long rounds)
{
	int64_t begin, took = 0;
	int failed, status = 0;
	pid_t child;

	atomic_store(&trips->ready, 0);
	child = fork_helper(PATIENCE);
	if (child < 0)
		return -1;
	if (child == 0) {
		bind_to(1);
		atomic_store(&trips->ready, 1);
		failed = answer(rounds, &took);
		trips->took = took;
		if (failed)
			atomic_store(&trips->failed, 1);
		_exit(EXIT_SUCCESS);
	}
	while (!atomic_load(&trips->ready))
		sched_yield();
	begin = now();
	failed = ask(rounds, &took);
	begin = now() - begin;
	if (failed)
		kill(child, SIGKILL);
	waitpid(child, &status, 0);
	if (failed || status || atomic_load(&trips->failed)) {
		complain("a round trip", "a call has failed, or the other process has died");
		return -1;
	}
	return pause_ns ? took + trips->took : begin;
}

/* Makes a turn of round trips through a rival. */
#define TRIPS(NAME, RIVAL)                                                                                             \
	static int64_t NAME(long rounds)                                                                                   \
	{                                                                                                                  \
		rival = &RIVAL;                                                                                                \
		return round_trips(rounds);                                                                                    \
	}

/* Measures turns of round trips with this pause. */
static int measure_trips(const char *bench, const struct contender *them, int count, int pairs, long rounds,
				int64_t pause)
{
	int result;

	pause_ns = pause;
	bind_to(0);
	result = measure(bench, them, count, pairs, rounds);
	unbind();
	return result;
}

#endif
