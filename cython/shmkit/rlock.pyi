from typing import Literal, SupportsIndex

from ._mutex import Mutex
from .segment import SharedMemory, _Path

class RLock(Mutex):
    def __init__(
        self,
        name: str | None = None,
        *,
        create: bool | None = None,
        segment: SharedMemory | None = None,
        offset: SupportsIndex | None = None,
        on_owner_death: Literal["raise", "recover"] = "raise",
        mode: SupportsIndex | None = None,
        directory: _Path | None = None,
        trust: bool = False,
        participants: SupportsIndex | None = None,
    ) -> None: ...
    @property
    def depth(self) -> int: ...
