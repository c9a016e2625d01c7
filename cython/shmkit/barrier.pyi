from collections.abc import Callable
from typing import NamedTuple, SupportsIndex

from typing_extensions import Self, disjoint_base

from ._object import Object, _Fd
from .segment import SharedMemory, _Path

class BarrierInfo(NamedTuple):
    parties: int
    waiting: int
    broken: bool
    turns: int
    breaks: int
    deaths: int

@disjoint_base
class Barrier(Object):
    def __init__(
        self,
        parties: SupportsIndex | None,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
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
    @classmethod
    def from_fd(
        cls,
        fd: _Fd,
        offset: SupportsIndex = 0,
        *,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        trust: bool = False,
    ) -> Self: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def reset(self) -> None: ...
    def abort(self) -> None: ...
    @property
    def parties(self) -> int: ...
    @property
    def n_waiting(self) -> int: ...
    @property
    def broken(self) -> bool: ...
    def stat(self) -> BarrierInfo: ...
