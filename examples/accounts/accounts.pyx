# cython: language_level=3, boundscheck=False, wraparound=False
"""Transfer money in a typed memoryview, under a lock and without the GIL; undo a transfer that a dead owner began.

    row 0 | balance 0 | balance 1 | ...
    row 1 | from      | to        | balance of from | balance of to | OPEN or 0       the journal of a transfer

If a process dies inside a transfer, only some of its stores are written, in program order. A transfer therefore
records the old balances before it changes either, and the next owner of the lock restores them. The stores of the dead
process are complete before the kernel reports its death. Only the compiler must not reorder them, on any processor.
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t
from posix.unistd cimport pause
from shmkit cimport SHMKIT_FOREVER, SHMKIT_OK
from shmkit.lock cimport Lock

cdef extern from "<stdatomic.h>" nogil:
    int memory_order_seq_cst
    void atomic_signal_fence(int order)

cdef enum:
    BALANCES = 0
    JOURNAL = 1
    FROM = 0
    TO = 1
    OLD_FROM = 2
    OLD_TO = 3
    OPEN = 4

# The number of columns that the journal needs.
WIDTH = OPEN + 1


cdef void transfer(double[:, ::1] table, Py_ssize_t source, Py_ssize_t target, double amount, bint stay) noexcept nogil:
    """Move an amount; with `stay`, wait forever between the two balances."""
    table[JOURNAL, FROM] = source
    table[JOURNAL, TO] = target
    table[JOURNAL, OLD_FROM] = table[BALANCES, source]
    table[JOURNAL, OLD_TO] = table[BALANCES, target]
    atomic_signal_fence(memory_order_seq_cst)
    table[JOURNAL, OPEN] = 1
    atomic_signal_fence(memory_order_seq_cst)
    table[BALANCES, source] -= amount
    while stay:
        pause()
    table[BALANCES, target] += amount
    atomic_signal_fence(memory_order_seq_cst)
    table[JOURNAL, OPEN] = 0


cdef void roll_back(double[:, ::1] table) noexcept nogil:
    """Undo an unfinished transfer. If this process dies too, the next owner repeats the same steps."""
    if table[JOURNAL, OPEN] == 0:
        return
    table[BALANCES, <Py_ssize_t> table[JOURNAL, FROM]] = table[JOURNAL, OLD_FROM]
    table[BALANCES, <Py_ssize_t> table[JOURNAL, TO]] = table[JOURNAL, OLD_TO]
    atomic_signal_fence(memory_order_seq_cst)
    table[JOURNAL, OPEN] = 0


def make_transfers(Lock lock, double[:, ::1] table, Py_ssize_t count, uint64_t seed, Py_ssize_t last=-1):
    """Make `count` transfers between random accounts; return how many dead owners this process replaced.

    last: the number of the transfer in whose middle this process waits forever.
    """
    cdef Py_ssize_t accounts = table.shape[1]
    cdef Py_ssize_t number, deaths = 0
    cdef uint64_t random = seed | 1
    cdef uint32_t owner_died = 0
    cdef int32_t status = SHMKIT_OK
    with nogil:
        for number in range(count):
            # xorshift64, https://en.wikipedia.org/wiki/Xorshift
            random ^= random << 13
            random ^= random >> 7
            random ^= random << 17
            status = lock.acquire_nogil(SHMKIT_FOREVER, &owner_died)
            if status != SHMKIT_OK:
                break
            if owner_died:
                roll_back(table)
                deaths += 1
                lock.mark_consistent_nogil()
            transfer(table, random % accounts, (random >> 32) % accounts, <double> (random >> 40 & 0xff),
                     number == last)
            status = lock.release_nogil()
            if status != SHMKIT_OK:
                break
    if status != SHMKIT_OK:
        raise RuntimeError(f"the lock failed with status {status}")
    return deaths


def is_half_done(double[:, ::1] table):
    """Return whether a transfer is unfinished and has changed its first balance."""
    cdef Py_ssize_t source = <Py_ssize_t> table[JOURNAL, FROM]
    return table[JOURNAL, OPEN] != 0 and table[BALANCES, source] != table[JOURNAL, OLD_FROM]
