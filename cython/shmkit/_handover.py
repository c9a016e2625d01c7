"""Hands file descriptors over to other processes inside pickles.

To a child that is just being spawned the spawner passes the descriptor itself. To a process that runs already goes a
note of where the descriptor stands, which it opens through /proc/PID/fd and compares; where others may not look there,
multiprocessing's resource sharer serves it. None of these keeps the memory alive after the sender has let go.
"""

import os
import typing
import weakref
from multiprocessing import context, reduction


class FdLocation(typing.NamedTuple):
    """Where a descriptor stands: in which process, which number, and which file it must be."""

    pid: int
    fd: int
    device: int
    inode: int
    pid_namespace: int


def _pid_namespace():
    return os.stat("/proc/self/ns/pid").st_ino


def _others_may_look():
    """Say whether another process of this user may open /proc/PID/fd here: the kernel gives it to root if not."""
    try:
        return os.stat("/proc/self/fd").st_uid == os.geteuid()
    except OSError:
        return False


class InheritedFd:
    """A descriptor that a spawner passes to its child, once however many pickled objects need it."""

    def __init__(self, fd):
        self._passed = reduction.DupFd(fd)
        self._fd = -1

    def __getstate__(self):
        return self._passed

    def __setstate__(self, passed):
        self._passed, self._fd = passed, -1

    def duplicate(self):
        """Return a copy of it in the process it was passed to."""
        if self._fd < 0:
            self._fd = self._passed.detach()
        return os.dup(self._fd)

    def __del__(self):
        if self._fd >= 0:
            os.close(self._fd)


# What is passed to each child that is just being spawned, by device and inode: a spawner has room for some 250.
_passed: "weakref.WeakKeyDictionary[object, dict[tuple[int, int], InheritedFd]]" = weakref.WeakKeyDictionary()


def dump_fd(fd, device, inode):
    """Return what a pickle carries for a descriptor of this process."""
    child = context.get_spawning_popen()
    if child is not None:
        files = _passed.setdefault(child, {})
        if (device, inode) not in files:
            files[device, inode] = InheritedFd(fd)
        return files[device, inode]
    if _others_may_look():
        return FdLocation(os.getpid(), fd, device, inode, _pid_namespace())
    return InheritedFd(fd)


def load_fd(token):
    """Return a new descriptor for what a pickle carries; the caller closes it."""
    if isinstance(token, InheritedFd):
        return token.duplicate()
    if token.pid_namespace != _pid_namespace():
        raise FileNotFoundError("the pickled segment lives in another PID namespace: share it by name or by descriptor")
    fd = os.open(f"/proc/{token.pid}/fd/{token.fd}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    found = os.fstat(fd)
    if (found.st_dev, found.st_ino) != (token.device, token.inode):
        os.close(fd)
        raise FileNotFoundError(f"process {token.pid} has closed the pickled segment")
    return fd
