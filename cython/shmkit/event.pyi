from typing import NamedTuple, SupportsIndex

from typing_extensions import disjoint_base

from ._object import Object
from .segment import SharedMemory, _Path

class EventInfo(NamedTuple):
    set: bool
    sets: int
    waits: int

@disjoint_base
class Event(Object):
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
    def set(self) -> None: ...
    def clear(self) -> None: ...
    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def stat(self) -> EventInfo: ...
