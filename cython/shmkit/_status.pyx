"""Raises exceptions for status codes, and makes Python's signal handlers end long calls."""

import errno
import os
import queue
import threading

from cpython.exc cimport PyErr_Occurred
from libc.stdint cimport int32_t
from shmkit cimport (
    SHMKIT_ERR_BROKEN, SHMKIT_ERR_CLOSED, SHMKIT_ERR_CORRUPT, SHMKIT_ERR_DEADLOCK, SHMKIT_ERR_EMPTY, SHMKIT_ERR_EXISTS,
    SHMKIT_ERR_FORKED, SHMKIT_ERR_FULL, SHMKIT_ERR_INTERRUPTED, SHMKIT_ERR_INVALID, SHMKIT_ERR_NOT_FOUND, SHMKIT_ERR_NOT_OWNER,
    SHMKIT_ERR_NO_MEMORY, SHMKIT_ERR_NO_SPACE, SHMKIT_ERR_OVERFLOW, SHMKIT_ERR_PERMISSION, SHMKIT_ERR_READ_LOCKED,
    SHMKIT_ERR_SHUT_DOWN,
    SHMKIT_ERR_SYSTEM, SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_TOO_LARGE, SHMKIT_ERR_UNSUPPORTED, SHMKIT_ERR_UNTRUSTED,
    SHMKIT_ERR_VERSION_MISMATCH, SHMKIT_ERR_WRONG_KIND, SHMKIT_VERSION, shmkit_check_version, shmkit_last_error, shmkit_set_interrupt, shmkit_status,
)


cdef extern from "<sys/syscall.h>":
    long SYS_gettid

cdef extern from "<unistd.h>" nogil:
    int getpid()
    long syscall(long number)

cdef extern from "Python.h":
    # Declared anew, because cpython.exc declares that it raises. Here `check` finds the exception.
    int PyErr_CheckSignals() noexcept
    ctypedef struct PyTypeObject:
        const char *tp_name


class ShmkitError(Exception):
    """Base class of the exceptions that shmkit defines.

    An error for which Python has an exception, such as OSError or ValueError, raises that one.

    Attributes
    ----------
    status : int
        Number of the C status. Python's own exceptions have this attribute too, if the error is a C status.
    """

    __module__ = "shmkit"


class Corrupt(ShmkitError):
    """The shared bytes are corrupt, or the file is too short."""

    __module__ = "shmkit"


class Forked(ShmkitError):
    """A signal handler forked during the call, and this is the child: the call goes on in the parent only.

    The child holds nothing of the call. Its next call works under an identity of its own.
    """

    __module__ = "shmkit"


class OwnerDied(ShmkitError):
    """The owner of the lock died while it held the lock: the data that it protects may be inconsistent."""

    __module__ = "shmkit"


class NotOwner(ShmkitError, RuntimeError, AssertionError):
    """The process or thread does not hold what it tried to release, mark, commit or acknowledge.

    The class is also a RuntimeError and an AssertionError, which the locks of multiprocessing raise for this.
    """

    __module__ = "shmkit"


class VersionMismatch(ShmkitError):
    """The library, or the layout of a segment, has an incompatible version."""

    __module__ = "shmkit"


# Since Python 3.13 `except queue.ShutDown` catches it too.
class ShutDown(*((ShmkitError, queue.ShutDown) if hasattr(queue, "ShutDown") else (ShmkitError,))):
    """The queue was shut down: a put fails at once, a get fails when no message is left."""

    __module__ = "shmkit"


# Statuses whose exception has the text as its only argument.
cdef dict _PLAIN = {
    SHMKIT_ERR_INVALID: ValueError,
    SHMKIT_ERR_CLOSED: ValueError,
    SHMKIT_ERR_WRONG_KIND: ValueError,
    SHMKIT_ERR_TOO_LARGE: ValueError,
    SHMKIT_ERR_NO_MEMORY: MemoryError,
    SHMKIT_ERR_SHUT_DOWN: ShutDown,
    SHMKIT_ERR_FORKED: Forked,
    SHMKIT_ERR_CORRUPT: Corrupt,
    SHMKIT_ERR_VERSION_MISMATCH: VersionMismatch,
    SHMKIT_ERR_INTERRUPTED: InterruptedError,
    SHMKIT_ERR_NOT_OWNER: NotOwner,
    SHMKIT_ERR_OVERFLOW: OverflowError,
    SHMKIT_ERR_TIMEOUT: TimeoutError,
    SHMKIT_ERR_DEADLOCK: RuntimeError,
    SHMKIT_ERR_BROKEN: threading.BrokenBarrierError,
    SHMKIT_ERR_EMPTY: queue.Empty,
    SHMKIT_ERR_FULL: queue.Full,
}

# Statuses whose exception is an OSError, and its errno if the kernel gave none. The errno selects the subclass.
cdef dict _OS = {
    SHMKIT_ERR_NOT_FOUND: errno.ENOENT,
    SHMKIT_ERR_EXISTS: errno.EEXIST,
    SHMKIT_ERR_PERMISSION: errno.EACCES,
    SHMKIT_ERR_UNTRUSTED: errno.EPERM,
    SHMKIT_ERR_NO_SPACE: errno.ENOSPC,
    SHMKIT_ERR_UNSUPPORTED: errno.EOPNOTSUPP,
    SHMKIT_ERR_SYSTEM: errno.EIO,
    SHMKIT_ERR_READ_LOCKED: errno.EAGAIN,
}


cdef object make_error(shmkit_status status, str text):
    """Return the exception for an error that has no errno of the kernel."""
    if status in _OS:
        error = OSError(_OS[status], text)
    else:
        error = _PLAIN[status](text)
    error.status = status
    return error


cdef object _exception(shmkit_status status):
    cdef int32_t number = 0
    cdef const char *sentence = NULL
    shmkit_last_error(NULL, &number, &sentence)
    text = sentence.decode("utf-8", "replace")
    if status in _PLAIN:
        return make_error(status, text)
    elif status in _OS:
        # An untrusted file is always a PermissionError: the errno of a symbolic link would select another class.
        own = status == SHMKIT_ERR_UNTRUSTED or not number
        error = OSError(_OS[status] if own else number, text)
    else:
        error = ShmkitError(text)
    error.status = status
    return error


cdef void publish(object kind, const char *name) noexcept:
    """Set the full name of a cdef class, like "shmkit.Lock"; `name` must be static."""
    (<PyTypeObject *> kind).tp_name = name


cdef int check(shmkit_status status) except -1:
    """Raise the exception of a status, unless it is SHMKIT_OK."""
    if status == 0:
        return 0
    if PyErr_Occurred():
        return -1  # the exception of the signal handler that ended the wait, such as KeyboardInterrupt
    raise _exception(status)


cdef bytes text(object given, str what):
    """Return a name or path as bytes for C."""
    cdef bytes encoded = os.fsencode(given)
    if b"\0" in encoded:
        raise make_error(SHMKIT_ERR_INVALID, f"{what} must not contain a NUL character")
    return encoded


cdef int32_t _check_signals(void *argument) noexcept nogil:
    # Returns 0, or -1 with an exception that `check` finds. Only the main thread runs signal handlers. Other threads do
    # not acquire the GIL, because that blocks without end while the interpreter shuts down.
    if syscall(SYS_gettid) != getpid():
        return 0
    with gil:
        return PyErr_CheckSignals()


check(shmkit_check_version(SHMKIT_VERSION))
check(shmkit_set_interrupt(_check_signals, NULL))
