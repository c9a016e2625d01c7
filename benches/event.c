/*
 * Compares events from C with their peers: uncontended, and in round trips between two processes.
 *
 *   event PAIRS [BENCH...]      prints the samples of each bench as lines of JSON (pairs.h)
 *
 * Round trips follow trips.h: a process posts by setting an event; it awaits by waiting for an event and clearing it.
 */

#include "trips.h"

#include <linux/futex.h>
#include <semaphore.h>
#include <sys/syscall.h>

/* The peers, in memory that both processes share; each in a cache line of its own. */
static struct shared {
	struct {
		_Alignas(64) atomic_uint word;
		_Alignas(64) sem_t semaphore;
	} of[BOTH];
	struct trips trips;
} *shared;

/* Our unnamed events, which forked children inherit. */
static shmkit_event *events[BOTH];

/* --- the rivals -------------------------------------------------------------------------------------------------- */

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

/* The limit of the hardware: spinning on words. */
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

/* The limit of the kernel: sleeping at once and always waking. */
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

/* Sleeps with a deadline and then checks the word again, as shmkit does in case a wake was lost. */
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

static int answer(long rounds, int64_t *took)
{
	int failed = 0;

	for (long i = 0; i < rounds; i++)
		failed |= await(THERE, took) | post(BACK);
	return failed;
}

static int ask(long rounds, int64_t *took)
{
	int failed = 0;

	for (long i = 0; i < rounds; i++)
		failed |= post(THERE) | await(BACK, took);
	return failed;
}

static int64_t trips_ours(long rounds)
{
	int64_t took;

	rival = &OURS;
	took = round_trips(rounds);
	if (took >= 0 && !pause_ns)
		print_figure("event running", "shmkit", (double)took / (double)rounds / 1e9);
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

	return measure_trips("event running", them, sizeof(them) / sizeof(*them), pairs, 2000, 0);
}

static int bench_asleep(int pairs)
{
	struct contender them[] = {{"shmkit", trips_ours},
				   {"raw futex, deadline", trips_futexes_with_deadline},
				   {"raw futex", trips_futexes},
				   {"sem_t", trips_semaphores}};

	return measure_trips("event asleep", them, sizeof(them) / sizeof(*them), pairs, 20, ASLEEP);
}

/* --- one process ------------------------------------------------------------------------------------------------- */

static int exchange(uint32_t from, uint32_t to)
{
	return !atomic_compare_exchange_strong(&shared->of[THERE].word, &from, to);
}

TURN_OF(turn_ours, set_ours(THERE) | wait_ours(THERE))
TURN_OF(turn_semaphore, set_semaphore(THERE) | wait_semaphore(THERE))
TURN_OF(turn_exchanges, exchange(0, 1) | exchange(1, 0))

static int bench_alone(int pairs)
{
	struct contender them[] = {{"shmkit", turn_ours}, {"exchanges", turn_exchanges}, {"sem_t", turn_semaphore}};
	int result;

	bind_to(0);
	result = measure("event alone", them, sizeof(them) / sizeof(*them), pairs, 0);
	unbind();
	return result;
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct bench BENCHES[] = {
	{"event alone", bench_alone, 1}, {"event running", bench_running, 2}, {"event asleep", bench_asleep, 2}};

static int prepare(void)
{
	shared = shared_memory(sizeof(*shared), 0);
	if (!shared)
		return bad("mmap");
	trips = &shared->trips;
	for (int which = 0; which < BOTH; which++) {
		if (sem_init(&shared->of[which].semaphore, 1, 0))
			return bad("sem_init");
		if (shmkit_event_create(NULL, NULL, &events[which]))
			return refused("create");
	}
	return 0;
}

int main(int argc, char **argv)
{
	return bench_main(argc, argv, BENCHES, sizeof(BENCHES) / sizeof(*BENCHES), prepare);
}
