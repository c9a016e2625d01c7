"""Shared memory, locks and queues for Python, Cython, ctypes, C and Rust that survive the death of any process.

>>> import shmkit
>>> with shmkit.SharedMemory(create=True, size=4096) as shm:
...     shm.buf[0] = 42
...     with shmkit.SharedMemory(shm.name) as same:
...         print(same.buf[0])
...     shm.unlink()
42
"""

import os as _os

from . import _capsules

# `cimport shmkit` in a Cython module reads this, also in the modules that are imported below.
__pyx_capi__ = _capsules.table()

from ._limits import Limits, limits
from ._mutex import LockInfo
from ._place import Lease, Reservation
from ._status import Corrupt, Forked, NotOwner, OwnerDied, ShmkitError, ShutDown, VersionMismatch
from .barrier import Barrier, BarrierInfo
from .condition import Condition, ConditionInfo
from .event import Event, EventInfo
from .lock import Lock
from .once import Once, OnceInfo
from .queue import JoinableQueue, Queue, QueueInfo, SimpleQueue
from .rlock import RLock
from .rwlock import RWLock, RWLockInfo
from .segment import SegmentInfo, SharedMemory
from .semaphore import BoundedSemaphore, Semaphore, SemaphoreInfo

__version__ = _capsules.version()

__all__ = [
    "Barrier",
    "BarrierInfo",
    "BoundedSemaphore",
    "Condition",
    "ConditionInfo",
    "Corrupt",
    "Event",
    "EventInfo",
    "Forked",
    "JoinableQueue",
    "Lease",
    "Limits",
    "Lock",
    "LockInfo",
    "NotOwner",
    "Once",
    "OnceInfo",
    "OwnerDied",
    "Queue",
    "QueueInfo",
    "RLock",
    "RWLock",
    "RWLockInfo",
    "Reservation",
    "SegmentInfo",
    "Semaphore",
    "SemaphoreInfo",
    "SharedMemory",
    "ShmkitError",
    "ShutDown",
    "SimpleQueue",
    "VersionMismatch",
    "get_include",
    "get_library_dir",
    "library_path",
    "limits",
]

_HERE = _os.path.dirname(_os.path.abspath(__file__))


def get_include():
    """Return the directory of shmkit.h.

    Returns
    -------
    str
        The directory, for ``include_dirs``.
    """
    return _os.path.join(_HERE, "include")


def get_library_dir():
    """Return the directory of libshmkit.

    Returns
    -------
    str
        The directory, for ``library_dirs`` and ``runtime_library_dirs``.
    """
    return _HERE


def library_path():
    """Return the path of the library that this package uses.

    Returns
    -------
    str
        The path, for ``ctypes.CDLL``. A process then uses one copy of the library.
    """
    return _os.fsdecode(_capsules.path())
