/*
 * The helper processes of the benches of queues. They are forked once for each contender and sleep between turns:
 *
 *   | this process                        | each helper                                        |
 *   |-------------------------------------|----------------------------------------------------|
 *   | calls the turn, sleeps              | wakes, reports that it is ready                    |
 *   | reads the clock, begins the turn    | does its part                                      |
 *   | does its own part                   | reports that it is done, sleeps                    |
 *   | reads the clock                     |                                                    |
 *
 * A single helper spins until the turn begins; several helpers sleep. If a helper fails, or a turn takes too long, this
 * process prints that and ends, and the kernel kills all helpers.
 */

#include "queue.h"

#include <linux/futex.h>
#include <sys/syscall.h>

/* A turn of more seconds has failed. */
static const unsigned DEADLINE_SECONDS = 120;

_Alignas(4096) char source[LARGE], target[LARGE];
size_t message_size;

static const char *measured = "";

const char *own_name(void)
{
	static char name[64];

	snprintf(name, sizeof(name), "shmkit-bench-%d", (int)getpid());
	return name;
}

static void fail_turn(int number)
{
	static const char what[] = ": a turn failed or timed out\n";

	(void)number;
	if (write(STDERR_FILENO, measured, strlen(measured)) < 0 || write(STDERR_FILENO, what, sizeof(what) - 1) < 0)
		_exit(2);
	_exit(EXIT_FAILURE);
}

int prepare_helpers(void)
{
	/* Touch the buffers, so that they cause no page faults later. */
	memset(source, 1, sizeof(source));
	memset(target, 1, sizeof(target));
	signal(SIGALRM, fail_turn);
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

static void sleep_until(atomic_uint *word, unsigned wanted)
{
	for (unsigned seen; (seen = atomic_load(word)) != wanted;)
		syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static void wake(atomic_uint *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static void store_and_wake(atomic_uint *word, unsigned value)
{
	atomic_store(word, value);
	wake(word);
}

static void add_and_wake(atomic_uint *word)
{
	atomic_fetch_add(word, 1);
	wake(word);
}

/* Binds each of two processes to a processor of its own; more processes are not bound. */
static void bind_stage(const struct stage *stage, int processor)
{
	if (stage->helpers == 1)
		bind_to(processor);
	else
		unbind();
}

static int join(const struct stage *stage)
{
	const struct rival *rival = stage->work->rival;
	int failed = 0;

	for (int i = 0; i < 2 && rival->join && stage->queues[i]; i++)
		failed |= rival->join(stage->queues[i]);
	return failed;
}

static void help(const struct stage *stage, int which)
{
	struct turn_state *state = stage->state;
	pid_t parent = getppid();
	int failed = join(stage);

	bind_stage(stage, 1);
	for (unsigned turn = 1; !failed; turn++) {
		sleep_until(&state->called, turn);
		add_and_wake(&state->there);
		if (stage->helpers == 1)
			while (atomic_load(&state->begun) != turn)
				;
		sleep_until(&state->begun, turn);
		failed = stage->help(stage, which);
		add_and_wake(&state->done);
	}
	complain(stage->work->rival->name, "a helper failed");
	if (getppid() == parent)
		kill(parent, SIGALRM);
}

int start_helpers(struct stage *stage)
{
	bind_stage(stage, 0);
	stage->state = shared_memory(sizeof(*stage->state), MAP_POPULATE);
	if (!stage->state || join(stage)) {
		complain(stage->work->rival->name, "cannot prepare it in this process");
		return -1;
	}
	for (int which = 0; which < stage->helpers; which++) {
		pid_t child = fork_helper(0);

		if (child < 0)
			return -1;
		if (child == 0) {
			help(stage, which);
			_exit(EXIT_FAILURE);
		}
		stage->pids[which] = child;
	}
	return 0;
}

void finish_helpers(struct stage *stage)
{
	for (int which = 0; which < stage->helpers; which++)
		finish(stage->pids[which]);
	if (stage->state)
		munmap(stage->state, sizeof(*stage->state));
	for (int i = 0; i < 2; i++)
		if (stage->queues[i])
			stage->work->rival->unmake(stage->queues[i]);
}

int64_t take_turn(const struct stage *stage, long rounds)
{
	struct turn_state *state = stage->state;
	unsigned turn = atomic_load(&state->called) + 1;
	int64_t begin, took = 0;
	int failed;

	measured = stage->work->rival->name;
	alarm(DEADLINE_SECONDS);
	state->rounds = rounds;
	atomic_store(&state->stop, 0);
	atomic_store(&state->put, 0);
	atomic_store(&state->got, 0);
	atomic_store(&state->there, 0);
	atomic_store(&state->done, 0);
	memset(state->each, 0, sizeof(state->each));
	store_and_wake(&state->called, turn);
	sleep_until(&state->there, (unsigned)stage->helpers);
	begin = now();
	atomic_store(&state->begun, turn);
	if (stage->helpers > 1)
		wake(&state->begun);
	failed = stage->act(stage);
	if (stage->helpers == 1)
		took = now() - begin;
	if (!failed)
		sleep_until(&state->done, (unsigned)stage->helpers);
	if (stage->helpers > 1)
		took = now() - begin;
	alarm(0);
	return failed ? -1 : took;
}
