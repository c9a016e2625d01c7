from collections.abc import Coroutine, Iterable
from typing import Any, Literal, NamedTuple, SupportsIndex

from typing_extensions import Buffer, disjoint_base

from ._object import Object
from ._place import Lease, Reservation
from .segment import SharedMemory, _Path

class QueueInfo(NamedTuple):
    messages: int
    bytes: int
    reserved: int
    leased: int
    puts: int
    gets: int
    overwritten: int
    skipped: int
    redelivered: int
    get_waits: int
    put_waits: int
    memory: int
    capacity: int
    maxsize: int
    max_bytes: int
    largest: int
    overflow: str
    shut: bool
    held_up_by: int | None
    held_up_by_namespace: int | None
    held_up_by_ticket: int | None

@disjoint_base
class Queue(Object):
    def __init__(
        self,
        maxsize: SupportsIndex = 0,
        *,
        max_bytes: SupportsIndex = 0,
        capacity: SupportsIndex = 0,
        overflow: Literal["block", "fail", "overwrite"] = "block",
        name: str | None = None,
        create: bool | None = None,
        segment: SharedMemory | None = None,
        offset: SupportsIndex | None = None,
        mode: SupportsIndex | None = None,
        directory: _Path | None = None,
        trust: bool = False,
        participants: SupportsIndex | None = None,
    ) -> None: ...
    def put(self, obj: object, block: bool = True, timeout: float | None = None) -> None: ...
    def put_nowait(self, obj: object) -> None: ...
    def put_bytes(self, data: Buffer, block: bool = True, timeout: float | None = None) -> None: ...
    def put_many(
        self, objs: Iterable[object], block: bool = True, timeout: float | None = None, *, partial: bool = False
    ) -> int: ...
    def put_bytes_many(
        self, messages: Iterable[Buffer], block: bool = True, timeout: float | None = None, *, partial: bool = False
    ) -> int: ...
    def reserve(self, size: SupportsIndex, block: bool = True, timeout: float | None = None) -> Reservation: ...
    def get(self, block: bool = True, timeout: float | None = None) -> Any: ...
    def get_nowait(self) -> Any: ...
    def get_bytes(self, block: bool = True, timeout: float | None = None) -> bytes: ...
    def get_bytes_into(self, buffer: Buffer, block: bool = True, timeout: float | None = None) -> int: ...
    def peek_bytes(self, block: bool = True, timeout: float | None = None) -> bytes: ...
    def get_many(
        self, max_items: SupportsIndex | None = None, block: bool = True, timeout: float | None = None
    ) -> list[Any]: ...
    def get_bytes_many(
        self, max_items: SupportsIndex | None = None, block: bool = True, timeout: float | None = None
    ) -> list[bytes]: ...
    def lease(self, block: bool = True, timeout: float | None = None) -> Lease: ...
    def qsize(self) -> int: ...
    def empty(self) -> bool: ...
    def full(self) -> bool: ...
    @property
    def maxsize(self) -> int: ...
    @property
    def max_bytes(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def overflow(self) -> str: ...
    def stat(self) -> QueueInfo: ...
    def join(self, timeout: float | None = None) -> bool: ...
    def shutdown(self) -> None: ...
    def close(self) -> None: ...
    def join_thread(self) -> None: ...
    def cancel_join_thread(self) -> None: ...
    def fileno(self) -> int: ...
    def aget(self, timeout: float | None = None) -> Coroutine[Any, Any, Any]: ...
    def aput(self, obj: object, timeout: float | None = None) -> Coroutine[Any, Any, None]: ...

@disjoint_base
class JoinableQueue(Queue):
    def task_done(self) -> None: ...

class SimpleQueue(Queue):
    def __init__(
        self,
        *,
        name: str | None = None,
        create: bool | None = None,
        segment: SharedMemory | None = None,
        offset: SupportsIndex | None = None,
        mode: SupportsIndex | None = None,
        directory: _Path | None = None,
        trust: bool = False,
        participants: SupportsIndex | None = None,
    ) -> None: ...
