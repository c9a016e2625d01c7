/*
 * Measures how soon a waiter acquires the lock of a killed owner, and the cost of waiting. Also measures the cost of
 * becoming a participant and of a liveness check, by the number of participants.
 */

#include "lock.h"

enum { LINE = 64, TRIALS = 10, BATCHES = 2, WAITERS = 5, DEAD_LOCKS = 512 };

/* The ns between the deaths of two owners, so that the kernel does not tear down two processes at the same time. */
static const int64_t APART = 40000000;
/* The longest sleep of a waiter, in ns (src/raw/lock.rs). */
static const int64_t LONGEST_SLEEP = 12000000;
static const size_t LARGE = (size_t)256 << 20;
static const int64_t TWO_SECONDS = 2000000000;

/* --- the owner is killed ----------------------------------------------------------------------------------------- */

/* A lock, the owner that is killed, and the waiter. */
struct trial {
	shmkit_lock *lock;
	pthread_mutex_t *mutex;
	size_t touched;
	/* When the waiter begins to wait; when the owner was killed; when the waiter acquired the lock. */
	int64_t begin, killed;
	volatile int64_t owned;
	atomic_int held, done, failed;
	pid_t owner, waiter;
};

static struct trial *trials;

static void sleep_until(int64_t time)
{
	struct timespec until = {.tv_sec = time / 1000000000, .tv_nsec = time % 1000000000};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static void hold(void *argument)
{
	struct trial *trial = argument;
	int failed = trial->mutex ? pthread_mutex_lock(trial->mutex)
				  : shmkit_lock_acquire(trial->lock, SHMKIT_FOREVER, 0, NULL);

	if (trial->touched) {
		void *memory = mmap(NULL, trial->touched, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (memory == MAP_FAILED)
			failed = 1;
		else
			memset(memory, 1, trial->touched);
	}
	atomic_store(&trial->failed, failed);
	atomic_store(&trial->held, 1);
	for (;;)
		pause();
}

static void await(void *argument)
{
	struct trial *trial = argument;
	uint32_t owner_died = 0;
	int failed;

	sleep_until(trial->begin);
	if (trial->mutex)
		owner_died = pthread_mutex_lock(trial->mutex) == EOWNERDEAD;
	failed = trial->mutex ? 0 : shmkit_lock_acquire(trial->lock, SHMKIT_FOREVER, 0, &owner_died);
	trial->owned = now();
	atomic_store(&trial->failed, failed || !owner_died);
	atomic_store(&trial->done, 1);
}

static void end_trial(struct trial *trial)
{
	finish(trial->owner);
	finish(trial->waiter);
	if (trial->lock)
		shmkit_lock_close(trial->lock);
	if (trial->mutex)
		munmap(trial->mutex, sizeof(*trial->mutex));
	memset(trial, 0, sizeof(*trial));
}

/* Starts an owner, which has acquired the lock when this function returns. */
static int begin_trial(struct trial *trial, int robust, size_t touched)
{
	trial->touched = touched;
	if (robust) {
		trial->mutex = shared_memory(sizeof(*trial->mutex), 0);
		if (!trial->mutex || make_robust(trial->mutex))
			return -1;
	} else if (shmkit_lock_create(NULL, NULL, &trial->lock)) {
		return refused("create");
	}
	trial->owner = start(hold, trial);
	if (trial->owner < 0 || reach(&trial->held, 1) || atomic_load(&trial->failed))
		return -1;
	return 0;
}

/* Kills each owner `delay` ns after its waiter began to wait; prints how soon the waiter then acquired the lock. */
static int kill_owners(const char *what, int robust, size_t touched, int64_t delay)
{
	/* The waits differ, so that the deaths fall on different points of a waiter's sleep. */
	int64_t first, step = delay / TRIALS < LONGEST_SLEEP / TRIALS ? delay / TRIALS : LONGEST_SLEEP / TRIALS;
	int result = 0;

	for (int i = 0; i < TRIALS && !result; i++)
		result = begin_trial(&trials[i], robust, touched);
	first = now() + APART;
	for (int i = 0; i < TRIALS && !result; i++) {
		trials[i].begin = first + i * APART;
		trials[i].waiter = start(await, &trials[i]);
		result = trials[i].waiter < 0 ? -1 : 0;
	}
	for (int i = 0; i < TRIALS && !result; i++) {
		sleep_until(trials[i].begin + delay + i * step);
		trials[i].killed = now();
		finish(trials[i].owner);
		trials[i].owner = 0;
	}
	for (int i = 0; i < TRIALS && !result; i++) {
		result = reach(&trials[i].done, 1);
		if (!result && atomic_load(&trials[i].failed)) {
			complain(what, "the waiter did not report the death of the owner");
			result = -1;
		} else if (!result) {
			print_figure("killed", what, (double)(trials[i].owned - trials[i].killed) / 1e9);
		}
	}
	for (int i = 0; i < TRIALS; i++)
		end_trial(&trials[i]);
	return result;
}

int bench_killed(int pairs)
{
	static const struct {
		const char *what;
		int robust;
		size_t touched;
		int64_t delay;
	} CASES[] = {{"shmkit, after 0.01 s", 0, 0, 10000000},
		     {"shmkit, after 0.1 s", 0, 0, 100000000},
		     {"shmkit, after 1 s", 0, 0, 1000000000},
		     {"shmkit, after 3 s", 0, 0, 3000000000},
		     {"shmkit, 256 MiB touched", 0, LARGE, 100000000},
		     {"pthread robust, after 0.1 s", 1, 0, 100000000}};

	(void)pairs;
	trials = shared_memory(TRIALS * sizeof(*trials), 0);
	if (!trials)
		return bad("mmap");
	for (size_t i = 0; i < sizeof(CASES) / sizeof(*CASES); i++) {
		for (int batch = 0; batch < BATCHES; batch++)
			if (stopped() || kill_owners(CASES[i].what, CASES[i].robust, CASES[i].touched, CASES[i].delay))
				return -1;
	}
	return munmap(trials, TRIALS * sizeof(*trials));
}

/* --- what a blocked waiter costs --------------------------------------------------------------------------------- */

static void block(void *argument)
{
	(void)argument;
	shmkit_lock_acquire(lock, SHMKIT_FOREVER, 0, NULL);
}

static int64_t used_by(pid_t child)
{
	struct timespec used;
	clockid_t clock;

	if (clock_getcpuclockid(child, &clock) || clock_gettime(clock, &used))
		return -1;
	return (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
}

int bench_waiter(int pairs)
{
	pid_t children[WAITERS] = {0};
	int64_t before[WAITERS], begin;
	int result = 0;

	(void)pairs;
	if (shmkit_lock_acquire(lock, SHMKIT_FOREVER, 0, NULL))
		return refused("acquire");
	for (int i = 0; i < WAITERS && !result; i++) {
		children[i] = start(block, NULL);
		result = children[i] < 0 ? -1 : 0;
	}
	/* Give the waiters time to begin. */
	rest_for(100000000);
	begin = now();
	for (int i = 0; i < WAITERS && !result; i++)
		before[i] = used_by(children[i]);
	rest_for(TWO_SECONDS);
	for (int i = 0; i < WAITERS && !result; i++) {
		int64_t after = used_by(children[i]);

		if (before[i] < 0 || after < 0)
			result = bad("the CPU time of a waiter");
		else
			print_figure("waiter", "shmkit", (double)(after - before[i]) / (double)(now() - begin));
	}
	for (int i = 0; i < WAITERS; i++)
		finish(children[i]);
	return shmkit_lock_release(lock) ? refused("release") : result;
}

/* --- many participants ------------------------------------------------------------------------------------------- */

/* A segment with `size` participants: processes that used it and sleep. The last of them owns a lock. */
struct group {
	int size;
	char name[64];
	pid_t *members;
	shmkit_segment *segment;
	shmkit_lock *held;
	shmkit_lock *dead[DEAD_LOCKS];
};

static struct group groups[] = {{.size = 1}, {.size = 64}, {.size = 1000}};

enum { GROUPS = sizeof(groups) / sizeof(*groups), MAX_PARTICIPANTS = 4096, HELD = LINE, DEAD = 2 * LINE };

static atomic_int *answers;

/* Opens the segment of a group as another process would, and one of its locks. */
static int enter(const struct group *group, uint64_t offset, shmkit_segment **segment, shmkit_lock **out)
{
	if (shmkit_segment_open(group->name, 0, NULL, segment))
		return refused("open");
	if (!shmkit_lock_create_at(*segment, offset, NULL, out))
		return 0;
	refused("create_at");
	shmkit_segment_close(*segment);
	return -1;
}

/* Becomes a participant and stays one. The last one owns the lock: the kernel examines the earlier ones first. */
static void take_part(void *argument)
{
	const struct group *group = argument;
	int last = atomic_load(answers) == group->size - 1;
	shmkit_segment *segment;
	shmkit_lock *mine;

	if (enter(group, last ? HELD : 0, &segment, &mine))
		return;
	if (shmkit_lock_acquire(mine, SHMKIT_FOREVER, 0, NULL) || (!last && shmkit_lock_release(mine)))
		return;
	atomic_fetch_add(answers, 1);
	for (;;)
		pause();
}

/* Acquires all locks in `dead` and waits to be killed. */
static void take_all(void *argument)
{
	struct group *group = argument;

	for (int i = 0; i < DEAD_LOCKS; i++)
		if (shmkit_lock_acquire(group->dead[i], SHMKIT_FOREVER, 0, NULL))
			return;
	atomic_fetch_add(answers, 1);
	for (;;)
		pause();
}

static int64_t claim(struct group *group, long rounds)
{
	int64_t took = 0;

	for (long i = 0; i < rounds; i++) {
		shmkit_segment *segment;
		shmkit_lock *mine;
		int64_t begin;
		int failed;

		if (enter(group, 0, &segment, &mine))
			return -1;
		begin = now();
		failed = shmkit_lock_acquire(mine, SHMKIT_FOREVER, 0, NULL);
		took += now() - begin;
		if (failed || shmkit_lock_release(mine))
			return refused("claim");
		shmkit_lock_close(mine);
		shmkit_segment_close(segment);
	}
	return took;
}

/* Tries to acquire the lock of the last participant: a poll, which asks the kernel once a millisecond. */
static int64_t poll_one(struct group *group, long rounds)
{
	int64_t begin = now();

	for (long i = 0; i < rounds; i++)
		if (shmkit_lock_acquire(group->held, SHMKIT_NOWAIT, 0, NULL) != SHMKIT_ERR_WOULD_BLOCK)
			return refused("the lock of a living process");
	return now() - begin;
}

/* Tries that lock and a lock of this process in turn: each time the owner differs, so the kernel is asked. */
static int64_t ask_living(struct group *group, long rounds)
{
	shmkit_lock *own = group->dead[0];
	int64_t took;
	int failed = 0;

	if (shmkit_lock_acquire(own, SHMKIT_NOWAIT, 0, NULL))
		return refused("a lock that is free");
	took = now();
	for (long i = 0; i < rounds; i++)
		failed |= shmkit_lock_acquire(i % 2 ? own : group->held, SHMKIT_NOWAIT, 0, NULL) != SHMKIT_ERR_WOULD_BLOCK;
	took = now() - took;
	if (shmkit_lock_release(own) || failed)
		return refused("the lock of a living process");
	return took;
}

static int64_t ask_dead(struct group *group, long rounds)
{
	uint32_t owner_died = 0;
	int64_t took;
	pid_t child;

	atomic_store(answers, 0);
	child = start(take_all, group);
	if (child < 0 || reach(answers, 1))
		return -1;
	finish(child);
	took = now();
	for (long i = 0; i < rounds; i++)
		if (shmkit_lock_acquire(group->dead[i], SHMKIT_NOWAIT, 0, &owner_died) || !owner_died)
			return refused("the lock of a dead process");
	took = now() - took;
	for (long i = 0; i < rounds; i++)
		if (shmkit_lock_mark_consistent(group->dead[i]) || shmkit_lock_release(group->dead[i]))
			return refused("release");
	return took;
}

#define BY_GROUP(WHAT)                                                                                                 \
	TURN_BY(WHAT##_1, WHAT(&groups[0], rounds))                                                                        \
	TURN_BY(WHAT##_64, WHAT(&groups[1], rounds))                                                                       \
	TURN_BY(WHAT##_1000, WHAT(&groups[2], rounds))                                                                     \
	static const struct contender WHAT##_all[GROUPS] = {                                                               \
		{"1", WHAT##_1}, {"64", WHAT##_64}, {"1,000", WHAT##_1000}};

BY_GROUP(claim)
BY_GROUP(poll_one)
BY_GROUP(ask_living)
BY_GROUP(ask_dead)

static int start_group(struct group *group)
{
	shmkit_segment_options how = {
		.struct_size = sizeof(how), .flags = SHMKIT_SEGMENT_MANAGED, .participants = MAX_PARTICIPANTS};
	shmkit_segment *made;

	snprintf(group->name, sizeof(group->name), "%.40s-%d", name, group->size);
	if (shmkit_segment_create(group->name, DEAD + DEAD_LOCKS * LINE, &how, &made))
		return refused("create");
	/* Each process that has it open is a participant: this process must be one only during the measurement. */
	shmkit_segment_close(made);
	group->members = calloc((size_t)group->size, sizeof(*group->members));
	if (!group->members)
		return bad("calloc");
	atomic_store(answers, 0);
	for (int i = 0; i < group->size; i++) {
		group->members[i] = start(take_part, group);
		if (group->members[i] < 0 || reach(answers, i + 1))
			return -1;
	}
	return 0;
}

static int open_locks(struct group *group)
{
	if (enter(group, HELD, &group->segment, &group->held))
		return -1;
	for (uint64_t i = 0; i < DEAD_LOCKS; i++)
		if (shmkit_lock_create_at(group->segment, DEAD + i * LINE, NULL, &group->dead[i]))
			return refused("create_at");
	return 0;
}

static void end_group(struct group *group)
{
	for (int i = 0; group->members && i < group->size; i++)
		finish(group->members[i]);
	free(group->members);
	for (int i = 0; i < DEAD_LOCKS; i++)
		if (group->dead[i])
			shmkit_lock_close(group->dead[i]);
	if (group->held)
		shmkit_lock_close(group->held);
	if (group->segment)
		shmkit_segment_close(group->segment);
	if (group->name[0])
		shmkit_segment_unlink_name(group->name, NULL, 0, 0, 0);
}

int bench_participants(int pairs)
{
	int result = 0;

	answers = shared_memory(sizeof(*answers), 0);
	if (!answers)
		return bad("mmap");
	for (int i = 0; i < GROUPS && !result; i++)
		result = start_group(&groups[i]);
	if (!result)
		result = measure("claim", claim_all, GROUPS, pairs, 0);
	for (int i = 0; i < GROUPS && !result; i++)
		result = open_locks(&groups[i]);
	if (!result)
		result = measure("poll", poll_one_all, GROUPS, pairs, 0);
	if (!result)
		result = measure("probe, living", ask_living_all, GROUPS, pairs, 0);
	if (!result)
		result = measure("probe, dead", ask_dead_all, GROUPS, pairs, DEAD_LOCKS);
	for (int i = 0; i < GROUPS; i++)
		end_group(&groups[i]);
	munmap(answers, sizeof(*answers));
	return result;
}
