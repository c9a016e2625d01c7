/*
 * Boost.Interprocess for the benches of locks (lock.h) and queues (queue_rivals.c). Without its headers `boost_size`
 * returns 0, no queue is created, and no other function is called.
 */

#include <cstddef>
#include <cstdint>

extern "C" {
std::size_t boost_size();
void boost_make(void *);
int64_t boost_turn(void *, long, int64_t (*)());
int boost_acquire(void *);
int boost_release(void *);
void *boost_queue_make(const char *, std::size_t, std::size_t);
void boost_queue_unmake(void *);
int boost_queue_put(void *, const void *, std::size_t);
int boost_queue_get(void *, void *, std::size_t, std::size_t *);
}

#if __has_include(<boost/interprocess/sync/interprocess_mutex.hpp>)
#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <new>

using mutex = boost::interprocess::interprocess_mutex;
using queue = boost::interprocess::message_queue;

std::size_t boost_size()
{
	return sizeof(mutex);
}

void boost_make(void *place)
{
	new (place) mutex;
}

int64_t boost_turn(void *place, long rounds, int64_t (*now)())
{
	mutex &it = *static_cast<mutex *>(place);
	int64_t begin = now();

	for (long i = 0; i < rounds; i++) {
		it.lock();
		it.unlock();
	}
	return now() - begin;
}

int boost_acquire(void *place)
{
	static_cast<mutex *>(place)->lock();
	return 0;
}

int boost_release(void *place)
{
	static_cast<mutex *>(place)->unlock();
	return 0;
}

/* Forked children inherit the mapping, so the name is removed at once. */
void *boost_queue_make(const char *name, std::size_t count, std::size_t size)
{
	try {
		queue *made = new queue(boost::interprocess::create_only, name, count, size);

		queue::remove(name);
		return made;
	} catch (const std::exception &) {
		return nullptr;
	}
}

void boost_queue_unmake(void *it)
{
	delete static_cast<queue *>(it);
}

int boost_queue_put(void *it, const void *data, std::size_t size)
{
	try {
		static_cast<queue *>(it)->send(data, size, 0);
		return 0;
	} catch (const std::exception &) {
		return -1;
	}
}

int boost_queue_get(void *it, void *buffer, std::size_t capacity, std::size_t *size)
{
	try {
		unsigned priority;
		queue::size_type got;

		static_cast<queue *>(it)->receive(buffer, capacity, got, priority);
		*size = got;
		return 0;
	} catch (const std::exception &) {
		return -1;
	}
}
#else
std::size_t boost_size()
{
	return 0;
}

void boost_make(void *) {}

int64_t boost_turn(void *, long, int64_t (*)())
{
	return -1;
}

int boost_acquire(void *)
{
	return -1;
}

int boost_release(void *)
{
	return -1;
}

void *boost_queue_make(const char *, std::size_t, std::size_t)
{
	return nullptr;
}

void boost_queue_unmake(void *) {}

int boost_queue_put(void *, const void *, std::size_t)
{
	return -1;
}

int boost_queue_get(void *, void *, std::size_t, std::size_t *)
{
	return -1;
}
#endif
