/*
 * Round trips between two processes, each bound to a processor of its own. A turn forks the process that answers.
 *
 *   | this process: `ask`           | its helper: `answer`          |
 *   |-------------------------------|-------------------------------|
 *   | post THERE                    | await THERE                   |
 *   | await BACK                    | post BACK                     |
 *
 * Running: there is no pause, so both processes spin; a turn is the time of all round trips. Asleep: each process
 * pauses before it posts, so that the other process sleeps; a turn is the sum of the times from before each `post` to
 * after the `await` that it ends.
 */

#ifndef TRIPS_H
#define TRIPS_H

#include "pairs.h"

#include <stdatomic.h>

enum { THERE, BACK, BOTH };

/* The pause before a process posts, in ns, so that the other process sleeps. */
static const int64_t ASLEEP = 300000;
/* A turn of more seconds has failed. */
static const unsigned DEADLINE_SECONDS = 60;

/* State that the two processes share, beside the rivals. */
struct trips {
	/* When the last `post` began, if there is a pause. */
	_Alignas(64) volatile int64_t begun;
	/* The helper is ready; it has failed; the ns of its waits. */
	_Alignas(64) atomic_int ready, failed;
	volatile int64_t took;
};

/* Calls return nonzero on failure. `await` resets the state, so that `post` can be called again. */
struct rival {
	int (*post)(int which);
	int (*await)(int which);
};

/* In shared memory; the program sets this pointer. */
static struct trips *trips;
static const struct rival *rival;
static int64_t pause_ns;

/* The loops of the two processes. The program defines them; they return nonzero on failure. */
static int ask(long rounds, int64_t *took);
static int answer(long rounds, int64_t *took);

static int post(int which)
{
	if (pause_ns) {
		for (int64_t begin = now(); now() - begin < pause_ns;)
			;
		trips->begun = now();
	}
	return rival->post(which);
}

/* With a pause, adds to `took` the time since the other process began to post. */
static int await(int which, int64_t *took)
{
	int failed = rival->await(which);

	if (pause_ns)
		*took += now() - trips->begun;
	return failed;
}

/* Makes `rounds` round trips; returns their ns. */
static int64_t round_trips(long rounds)
{
	int64_t begin, took = 0;
	int failed, status = 0;
	pid_t child;

	atomic_store(&trips->ready, 0);
	child = fork_helper(DEADLINE_SECONDS);
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
		complain("a round trip", "a call failed, or the other process died");
		return -1;
	}
	return pause_ns ? took + trips->took : begin;
}

/* Defines a turn of round trips through a rival. */
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
