from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, SupportsIndex

from typing_extensions import ParamSpec, disjoint_base

from ._object import Object
from .segment import SharedMemory, _Path

_P = ParamSpec("_P")

class OnceInfo(NamedTuple):
    done: bool
    owner: int | None
    owner_namespace: int | None
    owner_ticket: int | None
    owner_died: bool
    attempts: int
    recoveries: int
    waits: int

@disjoint_base
class Once(Object):
    def __init__(
        self,
        name: str | None = None,
        *,
        create: bool | None = None,
        segment: SharedMemory | None = None,
        offset: SupportsIndex | None = None,
        mode: SupportsIndex | None = None,
        directory: _Path | None = None,
        trust: bool = False,
        participants: SupportsIndex | None = None,
    ) -> None: ...
    @property
    def owner_died(self) -> bool: ...
    def begin(self, timeout: float | None = None) -> bool: ...
    def done(self) -> None: ...
    def abort(self) -> None: ...
    def is_done(self) -> bool: ...
    def call(self, function: Callable[_P, object], /, *arguments: _P.args, **keywords: _P.kwargs) -> bool: ...
    def stat(self) -> OnceInfo: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
