"""Reports how large a segment may be."""

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
    """Limits on the size of a segment at the time of the call. str() of it is one line.

    Attributes
    ----------
    largest_named : int
        Largest segment that could be created in the directory now: bytes, in whole pages.
    largest_anonymous : int
        Largest anonymous segment that could be created now: bytes, in whole pages.
    in_memory : bool
        The file system of the directory keeps its files in memory.
    directory_total : int or None
        Bytes of the directory's file system (statfs); None: no limit.
    directory_free : int or None
        Bytes that are free in that file system for this user; None: no limit.
    memory_total : int or None
        MemTotal of /proc/meminfo, in bytes; None: unknown.
    memory_available : int or None
        MemAvailable of /proc/meminfo, in bytes; None: unknown.
    swap_total : int
        SwapTotal of /proc/meminfo, in bytes.
    swap_free : int
        SwapFree of /proc/meminfo, in bytes.
    cgroup_limit : int or None
        Limit in bytes of the cgroup with the least memory left, from that of this process up to the root; None: none.
    cgroup_free : int or None
        Bytes that this cgroup has left; None: no limit. Page cache counts as free.
    commit_free : int or None
        CommitLimit minus Committed_AS of /proc/meminfo, in bytes; None unless ``overcommit_policy`` is 2.
    file_size_limit : int or None
        RLIMIT_FSIZE, in bytes; None: no limit.
    locked_memory_limit : int or None
        RLIMIT_MEMLOCK, in bytes; None: no limit.
    address_space_limit : int or None
        RLIMIT_AS, in bytes; None: no limit.
    open_files_limit : int or None
        RLIMIT_NOFILE, a number of descriptors; None: no limit.
    page_size : int
        Bytes of a page.
    huge_page_size : int
        Bytes of a huge page; 0: the kernel has none.
    overcommit_policy : int
        /proc/sys/vm/overcommit_memory: 0 estimates, 1 always grants, 2 counts.
    line : str
        All of this in one line.
    """

    __module__ = "shmkit"
    __slots__ = ()

    def __str__(self):
        return self.line


cdef object _limit(uint64_t figure):
    return None if figure == UINT64_MAX else figure


def limits(directory=None):
    """Return the limits on the size of a segment: what file system, machine, cgroups and resource limits allow.

    Parameters
    ----------
    directory : path, optional
        Directory of the segment. Default: the environment variable SHMKIT_DIR, else /dev/shm.

    Returns
    -------
    Limits
        The limits at the time of the call.

    Raises
    ------
    FileNotFoundError
        The directory does not exist.
    PermissionError
        This user may not search the path of the directory.
    ValueError
        The path has a component that is not a directory, or is too long.

    Examples
    --------
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
