/* A minimal lock, one exchange each way, behind functions of a shared library: it measures the cost of a call. */

#include <stdint.h>

int bare_acquire(uint64_t *word)
{
	uint64_t free = 0;

	return !__atomic_compare_exchange_n(word, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

int bare_release(uint64_t *word)
{
	return __atomic_exchange_n(word, 0, __ATOMIC_RELEASE) != 1;
}
