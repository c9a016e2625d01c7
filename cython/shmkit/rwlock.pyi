from contextlib import AbstractContextManager
from types import TracebackType
from typing import Literal, NamedTuple, SupportsIndex, final

from typing_extensions import Self, disjoint_base

from ._object import Object, _Fd
from .segment import SharedMemory, _Path

class RWLockInfo(NamedTuple):
    writing: bool
    waiting: bool
    owner: int | None
    owner_namespace: int | None
    owner_ticket: int | None
    owner_died: bool
    readers: int
    reading_processes: int
    max_readers: int
    writes: int
    contended: int
    recoveries: int
    contended_since: int | None

@disjoint_base
class RWLock(Object):
    def __init__(
        self,
        name: str | None = None,
        *,
        create: bool | None = None,
        segment: SharedMemory | None = None,
        offset: SupportsIndex | None = None,
        on_owner_death: Literal["raise", "recover"] = "raise",
        readers: SupportsIndex | None = None,
        mode: SupportsIndex | None = None,
        directory: _Path | None = None,
        trust: bool = False,
        participants: SupportsIndex | None = None,
    ) -> None: ...
    @classmethod
    def from_fd(
        cls,
        fd: _Fd,
        offset: SupportsIndex = 0,
        *,
        on_owner_death: Literal["raise", "recover"] = "raise",
        trust: bool = False,
    ) -> Self: ...
    @property
    def owner_died(self) -> bool: ...
    def acquire_read(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def acquire_write(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release_read(self) -> None: ...
    def release_write(self) -> None: ...
    def upgrade(self, timeout: float | None = None) -> None: ...
    def downgrade(self) -> None: ...
    def reader(self, timeout: float | None = None) -> _Hold: ...
    def writer(self, timeout: float | None = None) -> _Hold: ...
    def recover(self, timeout: float | None = None) -> AbstractContextManager[bool, None]: ...
    def mark_consistent(self) -> None: ...
    def stat(self) -> RWLockInfo: ...

@final
class _Hold:
    def __enter__(self) -> _Hold: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
    def upgrade(self, timeout: float | None = None) -> None: ...
    def downgrade(self) -> None: ...
