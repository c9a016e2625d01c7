/*
 * Compares queues from C with their peers and with the limits of the machine.
 *
 *   queue PAIRS [BENCH...]      prints the samples of each bench as lines of JSON (pairs.h)
 *
 * A round is a message, or a message there and a message back. Each turn checks the sum of the received message
 * numbers. All queues have the same capacity, so that their content stays in the cache (queue.h).
 */

#include "queue.h"

#include <sys/resource.h>

enum { THERE, BACK, MAX_CONTENDERS = 10 };

/* How long a process waits before it wakes the other process, in ns. */
static const int64_t ASLEEP = 300000;
/* A turn of a slow contender lasts about this many times TURN at most. */
static const int64_t MAX_TURN_FACTOR = 4;
/* The time of a turn of fixed length is scaled to this number of messages. */
enum { SCALED_ROUNDS = 1000000 };
/* In the count of page faults: the depth of the queue, its excess at times, and the number of messages. */
static const long DEPTH = 100, SLACK = 28;
static const long COUNTED = 250000;

/* The plan of a bench, which holds for all its contenders. */
struct plan {
	const char *bench;
	size_t size, room;
	int (*help)(const struct stage *stage, int which);
	int (*act)(const struct stage *stage);
	int helpers;
	/* Messages go both ways; the time is the one that the processes report. */
	int both_ways, asleep;
	/* 0: as many rounds as fill a turn. */
	long rounds;
	/* How long helpers that share a queue work, in ns; the result is then the number of messages they move. */
	long time;
	/* Each turn is also printed as a figure. */
	int print;
};

static const struct plan *plan;
static struct stage stages[MAX_CONTENDERS];

static int64_t scaled(const struct stage *stage, int64_t took);

/* A slow contender runs fewer rounds in a turn; its time is scaled to all rounds. */
static int64_t perform(struct stage *stage, long rounds)
{
	long fill = stage->round ? (long)(MAX_TURN_FACTOR * TURN / stage->round) + 1 : rounds;
	long done = plan->time || fill > rounds ? rounds : fill;
	int64_t took = take_turn(stage, done);

	if (took < 0)
		return -1;
	stage->round = took / done + 1;
	if (plan->asleep)
		took = stage->state->each[0].took + stage->state->each[1].took;
	if (plan->time)
		return scaled(stage, took);
	if (plan->print)
		print_figure(plan->bench, stage->work->rival->name, (double)took / 1e9 / (double)done);
	return (int64_t)((double)took * (double)rounds / (double)done);
}

TURN_BY(turn_0, perform(&stages[0], rounds))
TURN_BY(turn_1, perform(&stages[1], rounds))
TURN_BY(turn_2, perform(&stages[2], rounds))
TURN_BY(turn_3, perform(&stages[3], rounds))
TURN_BY(turn_4, perform(&stages[4], rounds))
TURN_BY(turn_5, perform(&stages[5], rounds))
TURN_BY(turn_6, perform(&stages[6], rounds))
TURN_BY(turn_7, perform(&stages[7], rounds))
TURN_BY(turn_8, perform(&stages[8], rounds))
TURN_BY(turn_9, perform(&stages[9], rounds))

static turn_function *const TURNS[MAX_CONTENDERS] = {turn_0, turn_1, turn_2, turn_3, turn_4,
						      turn_5, turn_6, turn_7, turn_8, turn_9};

/* Creates the queues of a contender; returns 0 if it is not available here. */
static int make_stage(struct stage *stage, const struct work *work)
{
	const char *why = "";
	char what[128];

	*stage = (struct stage){.work = work, .helpers = plan->helpers, .help = plan->help, .act = plan->act};
	if (plan->time && work->rival->helpers)
		stage->helpers = work->rival->helpers;
	for (int i = THERE; i <= (plan->both_ways ? BACK : THERE); i++) {
		stage->queues[i] = work->rival->make(plan->size, plan->room, &why);
		if (!stage->queues[i]) {
			snprintf(what, sizeof(what), "%s: %s", plan->bench, work->rival->name);
			skip(what, why);
			finish_helpers(stage);
			return 0;
		}
	}
	return 1;
}

/* Measures contenders according to a plan. */
static int run(const struct plan *planned, const struct work *const *works, int count, int pairs)
{
	struct contender them[MAX_CONTENDERS];
	int made = 0, failed = 0;

	plan = planned;
	message_size = plan->size;
	for (int i = 0; i < count && !failed; i++)
		if (make_stage(&stages[made], works[i])) {
			failed = start_helpers(&stages[made]);
			them[made] = (struct contender){works[i]->rival->name, TURNS[made]};
			made++;
		}
	if (!failed)
		failed = measure(plan->bench, them, made, pairs, plan->rounds);
	while (made > 0)
		finish_helpers(&stages[--made]);
	unbind();
	return failed;
}

#define RUN(PLANNED, PAIRS, ...)                                                                                       \
	run(PLANNED, (const struct work *const[]){__VA_ARGS__},                                                            \
	    sizeof((const struct work *const[]){__VA_ARGS__}) / sizeof(const struct work *), PAIRS)

static int expect_sum(const struct stage *stage, uint64_t sum)
{
	uint64_t rounds = (uint64_t)stage->state->rounds;

	if (sum == rounds * (rounds - 1) / 2)
		return 0;
	complain(stage->work->rival->name, "the received messages differ from the sent ones");
	return -1;
}

/* --- one to one -------------------------------------------------------------------------------------------------- */

static int help_single(const struct stage *stage, int which)
{
	(void)which;
	return stage->work->produce(stage->queues[THERE], 0, stage->state->rounds);
}

static int act_single(const struct stage *stage)
{
	uint64_t sum = 0;

	return stage->work->consume(stage->queues[THERE], stage->state->rounds, &sum) || expect_sum(stage, sum);
}

/* 64 bytes, put and got one by one. */
static int bench_single(int pairs)
{
	static const struct plan single = {"queue single", SMALL, ROOM_FOR_SMALL, help_single, act_single, .helpers = 1};

	return RUN(&single, pairs, &OURS_WORK, &RING_WORK, &CLOUDTOID_WORK, &BOOST_WORK, &MQ_WORK, &PIPE_WORK);
}

static int help_batch(const struct stage *stage, int which)
{
	(void)which;
	return stage->work->produce_many(stage->queues[THERE], 0, stage->state->rounds);
}

static int act_batch(const struct stage *stage)
{
	uint64_t sum = 0;

	return stage->work->consume_many(stage->queues[THERE], stage->state->rounds, &sum) || expect_sum(stage, sum);
}

/* The same in batches of 64, beside a ring without batches and a ring with them. */
static int bench_batch(int pairs)
{
	static const struct plan batch = {"queue batch", SMALL, ROOM_FOR_SMALL, help_batch, act_batch, .helpers = 1};

	return RUN(&batch, pairs, &OURS_WORK, &RING_WORK, &RING_IN_BATCHES_WORK, &CLOUDTOID_WORK, &PIPE_WORK);
}

static int act_copy(const struct stage *stage)
{
	uint64_t sum = 0;

	return stage->work->consume(stage->queues[THERE], stage->state->rounds, &sum);
}

/* 1 MiB, copied in and out. */
static int bench_large(int pairs)
{
	static const struct plan large = {"queue large", LARGE, ROOM_FOR_LARGE, help_single, act_copy, .helpers = 1};

	return RUN(&large, pairs, &OURS_WORK, &RING_WORK, &COPY_WORK, &CLOUDTOID_WORK, &BOOST_WORK, &PIPE_WORK);
}

static int act_add_up(const struct stage *stage)
{
	uint64_t sum = 0;
	int failed = stage->work->add_up(stage->queues[THERE], stage->state->rounds, &sum);

	/* All words except the number are constant. */
	sum -= (sum_of(source, LARGE) - *(uint64_t *)(void *)source) * (uint64_t)stage->state->rounds;
	return failed || expect_sum(stage, sum);
}

/* 1 MiB; the consumer adds up the words, in place or in its copy. */
static int bench_read(int pairs)
{
	static const struct plan reading = {"queue read", LARGE, ROOM_FOR_LARGE, help_single, act_add_up, .helpers = 1};

	return RUN(&reading, pairs, &OURS_WORK, &OURS_LEASED_WORK, &RING_WORK, &RING_IN_PLACE_WORK);
}

/* --- many to many ------------------------------------------------------------------------------------------------ */

/* The message that ends a consumer; each producer puts one when the time is over. */
static const uint64_t END = (uint64_t)1 << 62;

/* The first half of the helpers puts until the time is over; each of the others gets until it receives END. */
static int help_share(const struct stage *stage, int which)
{
	struct turn_state *state = stage->state;
	void *queue = stage->queues[THERE];
	uint64_t sum = 0, before;
	long count = 0;

	if (which < stage->helpers / 2) {
		for (; !atomic_load_explicit(&state->stop, memory_order_relaxed); count++)
			if (stage->work->produce(queue, count, 1))
				return -1;
		sum = (uint64_t)count * (uint64_t)(count - 1) / 2 + END;
		if (stage->work->produce(queue, (long)END, 1))
			return -1;
	} else {
		do {
			before = sum;
			if (stage->work->consume(queue, 1, &sum))
				return -1;
		} while (sum - before != END && ++count);
	}
	state->each[which].sum = sum;
	state->each[which].count = count;
	return 0;
}

static int act_share(const struct stage *stage)
{
	struct timespec time = {.tv_nsec = plan->time};

	nanosleep(&time, NULL);
	atomic_store(&stage->state->stop, 1);
	return 0;
}

/* Returns the ns of SCALED_ROUNDS messages; prints the smallest share of a consumer, relative to an even share. */
static int64_t scaled(const struct stage *stage, int64_t took)
{
	uint64_t put = 0, got = 0;
	long total = 0, least = INT32_MAX;
	char share[64];

	for (int i = 0; i < stage->helpers; i++) {
		if (i < stage->helpers / 2) {
			put += stage->state->each[i].sum;
			continue;
		}
		got += stage->state->each[i].sum;
		total += stage->state->each[i].count;
		if (stage->state->each[i].count < least)
			least = stage->state->each[i].count;
	}
	if (put != got || total == 0) {
		complain(stage->work->rival->name, "the received messages differ from the sent ones");
		return -1;
	}
	snprintf(share, sizeof(share), "%s, share", plan->bench);
	print_figure(share, stage->work->rival->name, (double)least * (stage->helpers / 2) / (double)total);
	return (int64_t)((double)took * (double)SCALED_ROUNDS / (double)total);
}

/* 64 bytes: two producers and two consumers, not bound to processors. */
static int bench_two(int pairs)
{
	static const struct plan two = {
		"queue two to two", SMALL, ROOM_FOR_SMALL, help_share, act_share, .helpers = 4, .rounds = SCALED_ROUNDS,
		.time = 50000000};

	return RUN(&two, pairs, &OURS_WORK, &CLOUDTOID_WORK, &BOOST_WORK, &MQ_WORK, &PIPE_WORK);
}

/* 64 bytes: sixteen producers and sixteen consumers, for long enough that each gets a processor. */
static int bench_crowded(int pairs)
{
	static const struct plan crowded = {
		"queue crowded", SMALL, ROOM_FOR_SMALL, help_share, act_share, .helpers = HELPERS, .rounds = SCALED_ROUNDS,
		.time = 500000000};

	return RUN(&crowded, pairs, &OURS_WORK, &OURS_OF_FOUR_WORK, &CLOUDTOID_WORK, &BOOST_WORK, &MQ_WORK, &PIPE_WORK);
}

/* --- there and back ---------------------------------------------------------------------------------------------- */

static int help_running(const struct stage *stage, int which)
{
	int64_t took = 0;

	(void)which;
	return stage->work->answer(stage->queues[THERE], stage->queues[BACK], stage->state->rounds, 0, &took);
}

static int act_running(const struct stage *stage)
{
	int64_t took = 0;

	return stage->work->ask(stage->queues[THERE], stage->queues[BACK], stage->state->rounds, 0, &took);
}

/* 64 bytes there and back without a pause: both processes spin. */
static int bench_running(int pairs)
{
	static const struct plan running = {"queue running",
					    SMALL,
					    ROOM_FOR_SMALL,
					    help_running,
					    act_running,
					    .helpers = 1,
					    .both_ways = 1,
					    .rounds = 2000,
					    .print = 1};

	return RUN(&running, pairs, &OURS_WORK, &RING_WORK, &CLOUDTOID_WORK, &BOOST_WORK, &MQ_WORK, &PIPE_WORK);
}

static int help_asleep(const struct stage *stage, int which)
{
	return stage->work->answer(stage->queues[THERE], stage->queues[BACK], stage->state->rounds, ASLEEP,
				   &stage->state->each[which].took);
}

static int act_asleep(const struct stage *stage)
{
	/* There is a single helper, so this entry is free. */
	return stage->work->ask(stage->queues[THERE], stage->queues[BACK], stage->state->rounds, ASLEEP,
				&stage->state->each[1].took);
}

/* 64 bytes there and back; each process pauses before a put, so that the other sleeps. The pauses are not timed. */
static int bench_asleep(int pairs)
{
	static const struct plan asleep = {"queue asleep",
					   SMALL,
					   ROOM_FOR_SMALL,
					   help_asleep,
					   act_asleep,
					   .helpers = 1,
					   .both_ways = 1,
					   .asleep = 1,
					   .rounds = 20};

	return RUN(&asleep, pairs, &OURS_WORK, &FUTEX_RING_WITH_DEADLINE_WORK, &FUTEX_RING_WORK, &CLOUDTOID_ASLEEP_WORK,
		   &BOOST_WORK, &MQ_WORK, &PIPE_WORK);
}

/* --- page faults ------------------------------------------------------------------------------------------------- */

static long faults(void)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	return used.ru_minflt + used.ru_majflt;
}

static int help_deep(const struct stage *stage, int which)
{
	struct turn_state *state = stage->state;
	long before = faults();

	for (long i = 0; i < state->rounds; i++) {
		while (i - atomic_load_explicit(&state->got, memory_order_relaxed) >= DEPTH + SLACK)
			sched_yield();
		if (stage->work->produce(stage->queues[THERE], i, 1))
			return -1;
		atomic_store_explicit(&state->put, i + 1, memory_order_release);
	}
	state->each[which].faults = faults() - before;
	return 0;
}

static int act_deep(const struct stage *stage)
{
	struct turn_state *state = stage->state;
	long before = faults();
	uint64_t sum = 0;

	for (long i = 0; i < state->rounds; i++) {
		long wanted = i + DEPTH < state->rounds ? i + DEPTH : state->rounds;

		while (atomic_load_explicit(&state->put, memory_order_acquire) < wanted)
			sched_yield();
		if (stage->work->consume(stage->queues[THERE], 1, &sum))
			return -1;
		atomic_store_explicit(&state->got, i + 1, memory_order_relaxed);
	}
	state->each[1].faults = faults() - before;
	return expect_sum(stage, sum);
}

/* Page faults of both sides per million messages of 64 bytes, with 100 messages in the queue. */
static int bench_faults(int pairs)
{
	static const struct plan deep = {"queue faults", SMALL, ROOM_FOR_SMALL, help_deep, act_deep, .helpers = 1};
	static const struct work *const them[] = {
		&OURS_UNBOUNDED_WORK, &RING_WORK, &CLOUDTOID_WORK, &BOOST_WORK, &PIPE_WORK};

	(void)pairs;
	plan = &deep;
	message_size = plan->size;
	for (size_t i = 0; i < sizeof(them) / sizeof(*them); i++) {
		struct stage *stage = &stages[0];
		int failed;

		if (!make_stage(stage, them[i]))
			continue;
		/* The first turn warms up. */
		failed = start_helpers(stage) || take_turn(stage, COUNTED) < 0;
		for (int time = 0; time < 3 && !failed; time++) {
			failed = take_turn(stage, COUNTED) < 0 || stopped();
			if (!failed)
				print_figure(plan->bench, them[i]->rival->name,
					    (double)(stage->state->each[0].faults + stage->state->each[1].faults) * 1e6 /
						    (double)COUNTED);
		}
		finish_helpers(stage);
		if (failed)
			return -1;
	}
	unbind();
	return 0;
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct bench BENCHES[] = {{"queue single", bench_single, 2},
				       {"queue batch", bench_batch, 2},
				       {"queue large", bench_large, 2},
				       {"queue read", bench_read, 2},
				       {"queue two to two", bench_two, 2},
				       {"queue crowded", bench_crowded, 2},
				       {"queue running", bench_running, 2},
				       {"queue asleep", bench_asleep, 2},
				       {"queue faults", bench_faults, 2},
				       {"queue content", bench_content, 2}};

int main(int argc, char **argv)
{
	return bench_main(argc, argv, BENCHES, sizeof(BENCHES) / sizeof(*BENCHES), prepare_helpers);
}
