from ._mutex import LockInfo as LockInfo
from ._status import Corrupt as Corrupt
from ._status import NotOwner as NotOwner
from ._status import OwnerDied as OwnerDied
from ._status import ShmkitError as ShmkitError
from ._status import VersionMismatch as VersionMismatch
from .event import Event as Event
from .event import EventInfo as EventInfo
from .condition import Condition as Condition
from .condition import ConditionInfo as ConditionInfo
from .limits import Limits as Limits
from .limits import limits as limits
from .lock import Lock as Lock
from .once import Once as Once
from .once import OnceInfo as OnceInfo
from .rlock import RLock as RLock
from .segment import SegmentInfo as SegmentInfo
from .segment import SharedMemory as SharedMemory

__version__: str
__pyx_capi__: dict[str, object]

__all__ = [
    "Condition",
    "ConditionInfo",
    "Corrupt",
    "Event",
    "EventInfo",
    "Limits",
    "Lock",
    "LockInfo",
    "NotOwner",
    "Once",
    "OnceInfo",
    "OwnerDied",
    "RLock",
    "SegmentInfo",
    "SharedMemory",
    "ShmkitError",
    "VersionMismatch",
    "get_include",
    "get_library_dir",
    "library_path",
    "limits",
]

def get_include() -> str: ...
def get_library_dir() -> str: ...
def library_path() -> str: ...
