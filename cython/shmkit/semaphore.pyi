from typing import NamedTuple, SupportsIndex

from typing_extensions import disjoint_base

from ._object import Object
from .segment import SharedMemory, _Path

class SemaphoreInfo(NamedTuple):
    value: int
    maximum: int
    undo: bool
    processes: int | None
    holders: int | None
    waits: int
    recoveries: int

@disjoint_base
class Semaphore(Object):
    def __init__(
        self,
        value: SupportsIndex = 1,
        *,
        undo: bool = False,
        maximum: SupportsIndex | None = None,
        processes: SupportsIndex | None = None,
        name: str | None = None,
        create: bool | None = None,
        segment: SharedMemory | None = None,
        offset: SupportsIndex | None = None,
        mode: SupportsIndex | None = None,
        directory: _Path | None = None,
        trust: bool = False,
        participants: SupportsIndex | None = None,
    ) -> None: ...
    def acquire(self, block: bool = True, timeout: float | None = None, *, n: SupportsIndex = 1) -> bool: ...
    def release(self, n: SupportsIndex = 1) -> None: ...
    def __enter__(self) -> bool: ...
    def __exit__(self, kind: object, value: object, traceback: object, /) -> None: ...
    def get_value(self) -> int: ...
    def locked(self) -> bool: ...
    @property
    def held(self) -> int | None: ...
    @property
    def undo(self) -> bool: ...
    @property
    def maximum(self) -> int: ...
    def stat(self) -> SemaphoreInfo: ...

class BoundedSemaphore(Semaphore):
    def __init__(
        self,
        value: SupportsIndex = 1,
        *,
        undo: bool = True,
        processes: SupportsIndex | None = None,
        name: str | None = None,
        create: bool | None = None,
        segment: SharedMemory | None = None,
        offset: SupportsIndex | None = None,
        mode: SupportsIndex | None = None,
        directory: _Path | None = None,
        trust: bool = False,
        participants: SupportsIndex | None = None,
    ) -> None: ...
