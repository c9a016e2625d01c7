/*
 * Shared by the benches of locks: the locks, and functions that fork and end helpers.
 *
 *   lock.c           uncontended, one process
 *   lock_rivals.c    several processes: contention and hand-over
 *   lock_deaths.c    a killed owner; blocked waiters; the cost of claims and probes
 */

#ifndef LOCK_H
#define LOCK_H

#include "pairs.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

/* The peers, in memory that forked children share; each in a cache line of its own. */
struct peers {
	_Alignas(64) uint64_t word;
	_Alignas(64) pthread_mutex_t normal;
	_Alignas(64) pthread_mutex_t robust;
	_Alignas(64) sem_t semaphore;
	_Alignas(64) char boost[128];
};

extern struct peers *peers;
/* Our unnamed lock, which forked children inherit. */
extern shmkit_lock *lock;
/* The name that this run gives to a segment. */
extern char name[64];

/* bare.c, a shared library */
int bare_acquire(uint64_t *word);
int bare_release(uint64_t *word);

/* boost.cpp */
size_t boost_size(void);
void boost_make(void *place);
int64_t boost_turn(void *place, long rounds, int64_t (*clock)(void));
int boost_acquire(void *place);
int boost_release(void *place);

/* Creates a robust mutex that processes share. */
int make_robust(pthread_mutex_t *mutex);

/* Forks a helper that runs `body` and ends; returns its pid, or -1. */
pid_t start(void (*body)(void *), void *argument);

/* Waits until `*word` is at least `wanted`; returns -1 after a minute. */
int reach(atomic_int *word, int wanted);

/* Sleeps for `ns` ns. */
void rest_for(int64_t ns);

int bench_contended(int pairs);
int bench_crowded(int pairs);
int bench_handoff(int pairs);
int bench_killed(int pairs);
int bench_waiter(int pairs);
int bench_participants(int pairs);

#endif
