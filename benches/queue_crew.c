/*
 * The processes of the benches of queues. Helpers are forked once for each contender and sleep between turns:
 *
 *   | this process                        | each helper                                        |
 *   |-------------------------------------|----------------------------------------------------|
 *   | calls the turn, sleeps              | wakes, says that it is there                       |
 *   | reads the clock, lets it begin      | does its part                                      |
 *   | does its own part                   | says that it has done, sleeps                      |
 *   | reads the clock                     |                                                    |
 *
 * A single helper spins until the turn begins, many sleep. A process that fails prints that and ends this process, and
 * with it all others; so does a turn that takes too long.
 */

#include "queue.h"

#include <linux/futex.h>
#include <sys/syscall.h>

/* Within so many seconds a turn is over, or something is wrong. */
static const unsigned PATIENCE = 120;

_Alignas(4096) char source[LARGE], target[LARGE];
size_t message_size;

static const char *playing = "";

const char *own_name(void)
{
	static char name[64];

	snprintf(name, sizeof(name), "shmkit-bench-%d", (int)getpid());
	return name;
}

static void give_up(int number)
{
	static const char what[] = ": a turn has failed, or has not ended\n";

	(void)number;
	if (write(STDERR_FILENO, playing, strlen(playing)) < 0 || write(STDERR_FILENO, what, sizeof(what) - 1) < 0)
		_exit(2);
	_exit(EXIT_FAILURE);
}

int prepare_crews(void)
{
	/* So that none of the first faults is one of theirs. */
	memset(source, 1, sizeof(source));
	memset(target, 1, sizeof(target));
	signal(SIGALRM, give_up);
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

/* Binds each of two processes to a processor of its own, and of more processes none. */
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
	struct crew *crew = stage->crew;
	pid_t parent = getppid();
	int failed = join(stage);

	bind_stage(stage, 1);
	for (unsigned turn = 1; !failed; turn++) {
		sleep_until(&crew->called, turn);
		add_and_wake(&crew->there);
		if (stage->helpers == 1)
			while (atomic_load(&crew->begun) != turn)
				;
		sleep_until(&crew->begun, turn);
		failed = stage->help(stage, which);
		add_and_wake(&crew->done);
	}
	complain(stage->work->rival->name, "a helper has failed");
	if (getppid() == parent)
		kill(parent, SIGALRM);
}

int start_crew(struct stage *stage)
{
	bind_stage(stage, 0);
	stage->crew = shared_memory(sizeof(*stage->crew), MAP_POPULATE);
	if (!stage->crew || join(stage)) {
		complain(stage->work->rival->name, "it cannot be used");
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

void finish_crew(struct stage *stage)
{
	for (int which = 0; which < stage->helpers; which++)
		finish(stage->pids[which]);
	if (stage->crew)
		munmap(stage->crew, sizeof(*stage->crew));
	for (int i = 0; i < 2; i++)
		if (stage->queues[i])
			stage->work->rival->unmake(stage->queues[i]);
}

int64_t take_turn(const struct stage *stage, long rounds)
{
	struct crew *crew = stage->crew;
	unsigned turn = atomic_load(&crew->called) + 1;
	int64_t begin, took = 0;
	int failed;

	playing = stage->work->rival->name;
	alarm(PATIENCE);
	crew->rounds = rounds;
	atomic_store(&crew->stop, 0);
	atomic_store(&crew->put, 0);
	atomic_store(&crew->got, 0);
	atomic_store(&crew->there, 0);
	atomic_store(&crew->done, 0);
	memset(crew->each, 0, sizeof(crew->each));
	store_and_wake(&crew->called, turn);
	sleep_until(&crew->there, (unsigned)stage->helpers);
	begin = now();
	atomic_store(&crew->begun, turn);
	if (stage->helpers > 1)
		wake(&crew->begun);
	failed = stage->act(stage);
	if (stage->helpers == 1)
		took = now() - begin;
	if (!failed)
		sleep_until(&crew->done, (unsigned)stage->helpers);
	if (stage->helpers > 1)
		took = now() - begin;
	alarm(0);
	return failed ? -1 : took;
}
