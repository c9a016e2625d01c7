/*
 * Events from C, beside their peers: alone, and from one process to another and back.
 *
 *   event PAIRS [BENCH...]      prints the samples of each bench as lines of JSON (pairs.h)
 *
 * A turn forks a process that answers, and each of the two is bound to a processor of its own. Round trip:
 *
 *   | asks                          | answers                       |
 *   |-------------------------------|-------------------------------|
 *   | set THERE                     | wait for THERE, clear it      |
 *   | wait for BACK, clear it       | set BACK                      |
 *
 * Running: at once, so that both look for what the other one does. Asleep: each waits a while before it sets, so that
 * the other one sleeps, and what counts is the time from before the call that sets to after the call that waits.
 */

#include "pairs.h"

#include <linux/futex.h>
#include <sched.h>
#include <semaphore.h>
#include <shmkit.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THERE, BACK, BOTH };

/* How long one waits before it wakes the other, in ns. */
static const int64_t ASLEEP = 300000;
/* Within so many seconds a turn is over, or something is wrong. */
static const unsigned PATIENCE = 60;

/* The peers, in memory that both processes share; each in a line of its own. */
static struct shared {
	struct {
		_Alignas(64) atomic_uint word;
		_Alignas(64) sem_t semaphore;
	} of[BOTH];
	/* When somebody began to set, where that counts. */
	_Alignas(64) volatile int64_t begun;
	/* The other one is there; it has failed; how long it took from set to wait. */
	_Alignas(64) atomic_int ready, failed;
	volatile int64_t took;
} *shared;

/* Ours, without a name: forked children have them too. */
static shmkit_event *events[BOTH];

/* --- the rivals -------------------------------------------------------------------------------------------------- */

struct rival {
	int (*set)(int which);
	/* And clears it. */
	int (*wait)(int which);
};

static int set_ours(int which)
{
	return shmkit_event_set(events[which]);
}

static int wait_ours(int which)
{
	return shmkit_event_wait(events[which], SHMKIT_FOREVER, 0) | shmkit_event_clear(events[which]);
}

static int set_semaphore(int which)
{
	return sem_post(&shared->of[which].semaphore);
}

static int wait_semaphore(int which)
{
	return sem_wait(&shared->of[which].semaphore);
}

/* What the hardware can do: words that are looked at for ever. */
static int set_word(int which)
{
	atomic_store_explicit(&shared->of[which].word, 1, memory_order_release);
	return 0;
}

static int wait_word(int which)
{
	while (!atomic_load_explicit(&shared->of[which].word, memory_order_acquire))
		;
	atomic_store_explicit(&shared->of[which].word, 0, memory_order_relaxed);
	return 0;
}

/* What the kernel can do: a sleep at once, and a wake always. */
static int set_futex(int which)
{
	atomic_store(&shared->of[which].word, 1);
	return syscall(SYS_futex, &shared->of[which].word, FUTEX_WAKE, 1, NULL, NULL, 0) < 0;
}

static int sleep_on(int which, const struct timespec *slice)
{
	while (!atomic_exchange(&shared->of[which].word, 0))
		syscall(SYS_futex, &shared->of[which].word, FUTEX_WAIT, 0, slice, NULL, 0);
	return 0;
}

static int wait_futex(int which)
{
	return sleep_on(which, NULL);
}

/* As one does who looks again after a while, as ours does, whatever wakes were lost. */
static int wait_futex_with_deadline(int which)
{
	static const struct timespec slice = {.tv_nsec = 1000000};

	return sleep_on(which, &slice);
}

static const struct rival OURS = {set_ours, wait_ours};
static const struct rival WORDS = {set_word, wait_word};
static const struct rival SEMAPHORES = {set_semaphore, wait_semaphore};
static const struct rival FUTEXES = {set_futex, wait_futex};
static const struct rival FUTEXES_WITH_DEADLINE = {set_futex, wait_futex_with_deadline};

/* --- two processes ----------------------------------------------------------------------------------------------- */

static const struct rival *rival;
/* How long each waits before it sets. */
static int64_t pause_ns;

/* Where this program may run. */
static cpu_set_t processors;

static void bind_to(int processor)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	for (int at = 0; at < CPU_SETSIZE; at++)
		if (CPU_ISSET(at, &processors) && processor-- == 0)
			CPU_SET(at, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

/* Sets one; returns nonzero where that fails. */
static int say(int which)
{
	if (pause_ns) {
		for (int64_t begin = now(); now() - begin < pause_ns;)
			;
		shared->begun = now();
	}
	return rival->set(which);
}

/* Waits for one; adds what that took to `took` where that counts. */
static int hear(int which, int64_t *took)
{
	int failed = rival->wait(which);

	if (pause_ns)
		*took += now() - shared->begun;
	return failed;
}

static void answer(long rounds)
{
	int64_t took = 0;
	int failed = 0;

	bind_to(1);
	atomic_store(&shared->ready, 1);
	for (long i = 0; i < rounds; i++)
		failed |= hear(THERE, &took) | say(BACK);
	shared->took = took;
	if (failed)
		atomic_store(&shared->failed, 1);
}

/* Goes there and back so often; returns the ns that took. */
static int64_t round_trips(long rounds)
{
	pid_t parent = getpid(), child;
	int64_t begin, took = 0;
	int failed = 0, status = 0;

	atomic_store(&shared->ready, 0);
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(PATIENCE);
		if (getppid() == parent)
			answer(rounds);
		_exit(EXIT_SUCCESS);
	}
	if (child < 0) {
		complain("fork", strerror(errno));
		return -1;
	}
	while (!atomic_load(&shared->ready))
		sched_yield();
	begin = now();
	for (long i = 0; i < rounds; i++)
		failed |= say(THERE) | hear(BACK, &took);
	begin = now() - begin;
	waitpid(child, &status, 0);
	if (failed || status || atomic_load(&shared->failed)) {
		complain("a round trip", "a call has failed, or the other process has died");
		return -1;
	}
	return pause_ns ? took + shared->took : begin;
}

#define TRIPS(NAME, RIVAL)                                                                                             \
	static int64_t NAME(long rounds)                                                                                   \
	{                                                                                                                  \
		rival = &RIVAL;                                                                                                \
		return round_trips(rounds);                                                                                    \
	}

static int64_t trips_ours(long rounds)
{
	int64_t took;

	rival = &OURS;
	took = round_trips(rounds);
	if (took >= 0 && !pause_ns)
		tell_figure("event running", "shmkit", (double)took / (double)rounds / 1e9);
	return took;
}

TRIPS(trips_words, WORDS)
TRIPS(trips_semaphores, SEMAPHORES)
TRIPS(trips_futexes, FUTEXES)
TRIPS(trips_futexes_with_deadline, FUTEXES_WITH_DEADLINE)

static int bench_running(int pairs)
{
	struct contender them[] = {
		{"shmkit", trips_ours}, {"words", trips_words}, {"sem_t", trips_semaphores}, {"raw futex", trips_futexes}};

	pause_ns = 0;
	if (CPU_COUNT(&processors) > 1)
		return measure("event running", them, sizeof(them) / sizeof(*them), pairs, 2000);
	skip("event running", "there is one processor, and nobody looks for what the other does");
	return 0;
}

static int bench_asleep(int pairs)
{
	struct contender them[] = {{"shmkit", trips_ours},
				   {"raw futex, deadline", trips_futexes_with_deadline},
				   {"raw futex", trips_futexes},
				   {"sem_t", trips_semaphores}};

	pause_ns = ASLEEP;
	if (CPU_COUNT(&processors) == 1) {
		skip("event asleep", "there is one processor");
		return 0;
	}
	return measure("event asleep", them, sizeof(them) / sizeof(*them), pairs, 20);
}

/* --- one process ------------------------------------------------------------------------------------------------- */

/* Makes a turn of what is done each round; it returns nonzero where it fails. */
#define TURN(NAME, ROUND)                                                                                              \
	static int64_t NAME(long rounds)                                                                                   \
	{                                                                                                                  \
		int failed = 0;                                                                                                \
		int64_t begin = now();                                                                                         \
                                                                                                                       \
		for (long i = 0; i < rounds; i++)                                                                              \
			failed |= ROUND;                                                                                           \
		begin = now() - begin;                                                                                         \
		if (!failed)                                                                                                   \
			return begin;                                                                                              \
		complain(#NAME, "a round failed");                                                                             \
		return -1;                                                                                                     \
	}

static int exchange(uint32_t from, uint32_t to)
{
	return !atomic_compare_exchange_strong(&shared->of[THERE].word, &from, to);
}

TURN(turn_ours, set_ours(THERE) | wait_ours(THERE))
TURN(turn_semaphore, set_semaphore(THERE) | wait_semaphore(THERE))
TURN(turn_exchanges, exchange(0, 1) | exchange(1, 0))

static int bench_alone(int pairs)
{
	struct contender them[] = {{"shmkit", turn_ours}, {"exchanges", turn_exchanges}, {"sem_t", turn_semaphore}};

	return measure("event alone", them, sizeof(them) / sizeof(*them), pairs, 0);
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	int (*run)(int pairs);
} BENCHES[] = {{"event alone", bench_alone}, {"event running", bench_running}, {"event asleep", bench_asleep}};

static int prepare(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		complain("mmap", strerror(errno));
		return -1;
	}
	for (int which = 0; which < BOTH; which++) {
		const char *why = "";

		if (sem_init(&shared->of[which].semaphore, 1, 0)) {
			complain("sem_init", strerror(errno));
			return -1;
		}
		if (shmkit_event_create(NULL, NULL, &events[which])) {
			shmkit_last_error(NULL, NULL, &why);
			complain("create", why);
			return -1;
		}
	}
	return 0;
}

static int wants(int argc, char **argv, const char *bench)
{
	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], bench) == 0)
			return 1;
	return argc == 2;
}

int main(int argc, char **argv)
{
	int pairs = argc > 1 ? atoi(argv[1]) : 0;

	hold_signals();
	unsetenv("SHMKIT_DIR");
	if (pairs < 1) {
		fprintf(stderr, "usage: %s PAIRS [BENCH...]\n", argv[0]);
		return EXIT_FAILURE;
	}
	if (prepare() || sched_getaffinity(0, sizeof(processors), &processors))
		return EXIT_FAILURE;
	bind_to(0);
	for (size_t i = 0; i < sizeof(BENCHES) / sizeof(*BENCHES); i++)
		if (wants(argc, argv, BENCHES[i].name) && BENCHES[i].run(pairs))
			return stopped() ? 128 + SIGINT : EXIT_FAILURE;
	for (int which = 0; which < BOTH; which++)
		shmkit_event_close(events[which]);
	return EXIT_SUCCESS;
}
