"""Answers how large a segment may be."""

from collections import namedtuple

from libc.stdint cimport UINT64_MAX, uint64_t
from shmkit cimport SHMKIT_LIMITS_IN_MEMORY, shmkit_limits, shmkit_limits_info, shmkit_limits_line
from shmkit._status cimport check, text


class Limits(namedtuple("Limits", [
    "largest_named", "largest_anonymous", "in_memory", "directory_total", "directory_free", "memory_total",
    "memory_available", "swap_total", "swap_free", "cgroup_limit", "cgroup_free", "commit_free", "file_size_limit",
    "locked_memory_limit", "address_space_limit", "open_files_limit", "page_size", "huge_page_size",
    "overcommit_policy", "line",
], module="shmkit")):
    """What bounds the size of a segment just now; sizes in bytes, None where there is no limit. str() is one line.

    largest_named, largest_anonymous: the largest segment of either kind that could be made now, in whole pages.
    in_memory: whether the directory's file system keeps what it holds in memory. directory_total, directory_free: what
    it can hold, and what is left for this user (statfs). memory_*, swap_*: of the machine (/proc/meminfo).
    cgroup_*: of the cgroup with least left, from this process' own to the root. commit_free: what the kernel would
    still promise where overcommit_policy is 2. *_limit: RLIMIT_FSIZE, RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_NOFILE.
    page_size, huge_page_size: 0 where the kernel has no huge pages. line: all of it for people.
    """

    __module__ = "shmkit"
    __slots__ = ()

    def __str__(self):
        return self.line


cdef object _limit(uint64_t figure):
    return None if figure == UINT64_MAX else figure


def limits(directory=None):
    """Return the Limits of segments in `directory`: None is SHMKIT_DIR, else /dev/shm.

    >>> print(limits())  # doctest: +ELLIPSIS
    largest segment now: ... in /dev/shm (bounded by ...), ... anonymous (bounded by ...); ...
    """
    cdef shmkit_limits_info info
    cdef char line[1024]
    cdef bytes given = None if directory is None else text(directory, "directory")
    cdef const char *where = NULL if given is None else <const char *> given
    info.struct_size = sizeof(info)
    check(shmkit_limits(where, &info))
    check(shmkit_limits_line(where, line, sizeof(line)))
    return Limits(
        info.largest_named, info.largest_anonymous, (info.flags & SHMKIT_LIMITS_IN_MEMORY) != 0,
        _limit(info.directory_total), _limit(info.directory_free), _limit(info.memory_total),
        _limit(info.memory_available), info.swap_total, info.swap_free, _limit(info.cgroup_limit),
        _limit(info.cgroup_free), _limit(info.commit_free), _limit(info.file_size_limit),
        _limit(info.locked_memory_limit), _limit(info.address_space_limit), _limit(info.open_files_limit),
        info.page_size, info.huge_page_size, info.overcommit_policy, (<bytes> line).decode("utf-8", "replace"),
    )


limits.__module__ = "shmkit"
