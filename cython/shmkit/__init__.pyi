from ._limits import Limits as Limits
from ._limits import limits as limits
from ._mutex import LockInfo as LockInfo
from ._place import Lease as Lease
from ._place import Reservation as Reservation
from ._status import Corrupt as Corrupt
from ._status import Forked as Forked
from ._status import NotOwner as NotOwner
from ._status import OwnerDied as OwnerDied
from ._status import ShmkitError as ShmkitError
from ._status import ShutDown as ShutDown
from ._status import VersionMismatch as VersionMismatch
from .barrier import Barrier as Barrier
from .barrier import BarrierInfo as BarrierInfo
from .condition import Condition as Condition
from .condition import ConditionInfo as ConditionInfo
from .event import Event as Event
from .event import EventInfo as EventInfo
from .lock import Lock as Lock
from .once import Once as Once
from .once import OnceInfo as OnceInfo
from .queue import JoinableQueue as JoinableQueue
from .queue import Queue as Queue
from .queue import QueueInfo as QueueInfo
from .queue import SimpleQueue as SimpleQueue
from .rlock import RLock as RLock
from .rwlock import RWLock as RWLock
from .rwlock import RWLockInfo as RWLockInfo
from .segment import SegmentInfo as SegmentInfo
from .segment import SharedMemory as SharedMemory
from .semaphore import BoundedSemaphore as BoundedSemaphore
from .semaphore import Semaphore as Semaphore
from .semaphore import SemaphoreInfo as SemaphoreInfo

__version__: str
__pyx_capi__: dict[str, object]

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

def get_include() -> str: ...
def get_library_dir() -> str: ...
def library_path() -> str: ...
