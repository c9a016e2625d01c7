from contextlib import AbstractContextManager
from types import TracebackType
from typing import Callable, NamedTuple, SupportsIndex, TypeVar

from typing_extensions import Self, disjoint_base

from ._mutex import Mutex
from ._object import Object, _Fd
from .segment import SharedMemory, _Path

_T = TypeVar("_T")

class ConditionInfo(NamedTuple):
    cells: int
    waiting: int
    waits: int
    notified: int
    timeouts: int
    recoveries: int

@disjoint_base
class Condition(Object):
    def __init__(
        self,
        lock: Mutex | None = None,
        *,
        cells: SupportsIndex | None = None,
        name: str | None = None,
        create: bool | None = None,
        segment: SharedMemory | None = None,
        offset: SupportsIndex | None = None,
        mode: SupportsIndex | None = None,
        directory: _Path | None = None,
        trust: bool = False,
        participants: SupportsIndex | None = None,
    ) -> None: ...
    @classmethod
    def from_fd(  # type: ignore[override]
        cls,
        fd: _Fd,
        offset: SupportsIndex = 0,
        *,
        lock: Mutex,
        trust: bool = False,
    ) -> Self: ...
    @property
    def lock(self) -> Mutex: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> None: ...
    def recover(self, timeout: float | None = None) -> AbstractContextManager[bool]: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def wait_for(self, predicate: Callable[[], _T], timeout: float | None = None) -> _T: ...
    def notify(self, n: SupportsIndex = 1) -> None: ...
    def notify_all(self) -> None: ...
    def stat(self) -> ConditionInfo: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
