"""What benches/lock.py has in Cython: a loop that takes a lock without the GIL, and nothing at all."""

from shmkit.lock cimport Lock


cdef class Nothing:
    """A context manager that does nothing: the least that `with` costs."""

    def __enter__(self):
        return True

    def __exit__(self, kind, value, traceback, /):
        pass


def until_stopped(Lock lock, const unsigned char[::1] stop, long[::1] total):
    """Take the lock, add one and release, until stop[0] is set; return how often, -1 where the lock failed."""
    cdef long count = 0
    cdef bint failed = False
    with nogil:
        # The view is of shared memory: each call in the loop makes the compiler read it again.
        while not stop[0]:
            failed |= lock.acquire_nogil(-1, NULL) != 0
            total[0] += 1
            failed |= lock.release_nogil() != 0
            count += 1
    return -1 if failed else count
