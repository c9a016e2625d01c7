from contextlib import AbstractContextManager
from types import TracebackType
from typing import Literal, NamedTuple, SupportsIndex

from typing_extensions import Self, disjoint_base

from ._object import Object, _Fd

class LockInfo(NamedTuple):
    held: bool
    owner: int | None
    owner_namespace: int | None
    owner_ticket: int | None
    owner_died: bool
    transferable: bool
    acquisitions: int
    contended: int
    recoveries: int
    contended_since: int | None

@disjoint_base
class Mutex(Object):
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
    @property
    def owner(self) -> int | None: ...
    @property
    def transferable(self) -> bool: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> None: ...
    def recover(self, timeout: float | None = None) -> AbstractContextManager[bool, None]: ...
    def mark_consistent(self) -> None: ...
    def locked(self) -> bool: ...
    def stat(self) -> LockInfo: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
