# cython: language_level=3, boundscheck=False, wraparound=False
"""Transfers between accounts in a typed memoryview, under a lock, without the GIL; and what to do when one was killed.

    row 0 | balance 0 | balance 1 | ...
    row 1 | from      | to        | balance of from | balance of to | OPEN or 0       the transfer that is under way

A process that dies inside a transfer has written some of its stores, in the order in which they stand here, and not the
rest. So the old balances are written down before either is touched, and whoever gets the lock after a death puts them
back. The kernel ends the dead one's stores before it says that it is dead: only the compiler must be kept from
changing their order, on any processor.
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

# Columns that the journal needs.
WIDTH = OPEN + 1


cdef void transfer(double[:, ::1] table, Py_ssize_t source, Py_ssize_t target, double amount, bint stay) noexcept nogil:
    """Move an amount; with `stay`, stay for ever between its two halves."""
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
    """Undo a transfer that was under way. Whoever does so may be killed too, and the next one does it again."""
    if table[JOURNAL, OPEN] == 0:
        return
    table[BALANCES, <Py_ssize_t> table[JOURNAL, FROM]] = table[JOURNAL, OLD_FROM]
    table[BALANCES, <Py_ssize_t> table[JOURNAL, TO]] = table[JOURNAL, OLD_TO]
    atomic_signal_fence(memory_order_seq_cst)
    table[JOURNAL, OPEN] = 0


def make_transfers(Lock lock, double[:, ::1] table, Py_ssize_t count, uint64_t seed, Py_ssize_t last=-1):
    """Make `count` transfers between random accounts; return how often an owner had died.

    last: the number of the transfer in whose middle this process stays.
    """
    cdef Py_ssize_t accounts = table.shape[1]
    cdef Py_ssize_t number, deaths = 0
    cdef uint64_t dice = seed | 1
    cdef uint32_t owner_died = 0
    cdef int32_t status = SHMKIT_OK
    with nogil:
        for number in range(count):
            # xorshift64, https://en.wikipedia.org/wiki/Xorshift
            dice ^= dice << 13
            dice ^= dice >> 7
            dice ^= dice << 17
            status = lock.acquire_nogil(SHMKIT_FOREVER, &owner_died)
            if status != SHMKIT_OK:
                break
            if owner_died:
                roll_back(table)
                deaths += 1
                lock.mark_consistent_nogil()
            transfer(table, dice % accounts, (dice >> 32) % accounts, <double> (dice >> 40 & 0xff), number == last)
            status = lock.release_nogil()
            if status != SHMKIT_OK:
                break
    if status != SHMKIT_OK:
        raise RuntimeError(f"the lock said {status}")
    return deaths


def is_half_done(double[:, ::1] table):
    """Say whether a transfer is under way, and its first balance is changed already."""
    cdef Py_ssize_t source = <Py_ssize_t> table[JOURNAL, FROM]
    return table[JOURNAL, OPEN] != 0 and table[BALANCES, source] != table[JOURNAL, OLD_FROM]
