import os
from collections.abc import Iterable
from types import TracebackType
from typing import Any, NamedTuple, SupportsIndex

from typing_extensions import Self, TypeAlias, disjoint_base

from ._object import _Fd
from .lock import Lock

_Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

class SegmentInfo(NamedTuple):
    size: int
    capacity: int
    allocated: int
    device: int
    inode: int
    links: int
    user: int
    mode: int
    readonly: bool
    created: bool
    sealed: bool
    managed: bool
    ephemeral: bool
    participants: int
    control_bytes: int
    id: int

@disjoint_base
class SharedMemory:
    def __init__(
        self,
        name: str | None = None,
        create: bool | None = False,
        size: SupportsIndex = 0,
        *,
        track: bool = True,
        capacity: SupportsIndex | None = None,
        readonly: bool = False,
        mode: int | None = None,
        trust: bool = False,
        anonymous: bool = False,
        directory: _Path | None = None,
        prefault: bool = False,
        huge: bool = False,
        lock: bool = False,
        no_space_check: bool = False,
        sparse: bool = False,
        managed: bool | None = None,
        participants: SupportsIndex | None = None,
        ephemeral: bool = False,
    ) -> None: ...
    @property
    def name(self) -> str | None: ...
    @property
    def directory(self) -> str | None: ...
    @property
    def size(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def readonly(self) -> bool: ...
    @property
    def huge_bytes(self) -> int: ...
    @property
    def lock(self) -> Lock: ...
    @property
    def buf(self) -> memoryview | None: ...
    def view(
        self, format: str = "B", shape: SupportsIndex | Iterable[int] | None = None, offset: int = 0
    ) -> memoryview[Any]: ...
    def resize(self, size: SupportsIndex, *, no_space_check: bool = False, sparse: bool = False) -> None: ...
    def stat(self) -> SegmentInfo: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def unlink(self) -> None: ...
    @classmethod
    def from_fd(
        cls,
        fd: _Fd,
        *,
        capacity: SupportsIndex | None = None,
        readonly: bool = False,
        trust: bool = False,
        prefault: bool = False,
        huge: bool = False,
        lock: bool = False,
        managed: bool | None = None,
    ) -> Self: ...
    @staticmethod
    def unlink_name(name: _Path, directory: _Path | None = None) -> None: ...
    @staticmethod
    def names(directory: _Path | None = None) -> list[str]: ...
    @staticmethod
    def gc(directory: _Path | None = None) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
