/* Boost.Interprocess for benches/lock.h; without its headers `boost_size` is 0 and nothing else is called. */

#include <cstddef>
#include <cstdint>

extern "C" {
std::size_t boost_size();
void boost_make(void *);
int64_t boost_turn(void *, long, int64_t (*)());
int boost_acquire(void *);
int boost_release(void *);
}

#if __has_include(<boost/interprocess/sync/interprocess_mutex.hpp>)
#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <new>

using mutex = boost::interprocess::interprocess_mutex;

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
#endif
