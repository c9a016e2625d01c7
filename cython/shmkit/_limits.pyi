import os
from typing import NamedTuple

class Limits(NamedTuple):
    largest_named: int
    largest_anonymous: int
    in_memory: bool
    directory_total: int | None
    directory_free: int | None
    memory_total: int | None
    memory_available: int | None
    swap_total: int
    swap_free: int
    cgroup_limit: int | None
    cgroup_free: int | None
    commit_free: int | None
    file_size_limit: int | None
    locked_memory_limit: int | None
    address_space_limit: int | None
    open_files_limit: int | None
    page_size: int
    huge_page_size: int
    overcommit_policy: int
    line: str

def limits(directory: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None = None) -> Limits: ...
