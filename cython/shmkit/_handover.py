"""Passes file descriptors to other processes inside pickles.

A child that is being spawned gets the descriptor itself. A process that runs already gets an FdLocation: it opens the
descriptor through /proc/PID/fd and compares the file. If other processes may not read /proc/PID/fd, the resource sharer
of multiprocessing serves the descriptor. None of these keeps the memory alive after the sender has closed the object.
"""

import errno
import os
import typing
import weakref
from multiprocessing import context, reduction


class FdLocation(typing.NamedTuple):
    """A descriptor of a process, and the file that it must refer to."""

    pid: int
    fd: int
    device: int
    inode: int
    pid_namespace: int


def _pid_namespace():
    return os.stat("/proc/self/ns/pid").st_ino


def _others_may_look():
    """Return whether another process of this user may open /proc/PID/fd. If not, root owns it."""
    try:
        return os.stat("/proc/self/fd").st_uid == os.geteuid()
    except OSError:
        return False


class InheritedFd:
    """A descriptor that a spawning process passes to its child, once for all pickled objects that need it."""

    def __init__(self, fd):
        self._passed = reduction.DupFd(fd)
        self._fd = -1

    def __getstate__(self):
        return self._passed

    def __setstate__(self, passed):
        self._passed, self._fd = passed, -1

    def duplicate(self):
        """Return a duplicate in the process that it was passed to."""
        if self._fd < 0:
            self._fd = self._passed.detach()
        return os.dup(self._fd)

    def __del__(self):
        if self._fd >= 0:
            os.close(self._fd)


# The descriptors for each child that is being spawned, by device and inode. A child can get about 250.
_passed: "weakref.WeakKeyDictionary[object, dict[tuple[int, int], InheritedFd]]" = weakref.WeakKeyDictionary()


def dump_fd(fd, device, inode):
    """Return the part of a pickle that describes a descriptor of this process."""
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
    """Return a new descriptor for that part of a pickle. The caller must close it."""
    if isinstance(token, InheritedFd):
        return token.duplicate()
    if token.pid_namespace != _pid_namespace():
        text = "the pickled object is in another PID namespace: pass it by name or by descriptor"
        raise FileNotFoundError(errno.ENOENT, text)
    text = f"process {token.pid} has closed the pickled object, or has ended: keep it open until it is opened here"
    try:
        fd = os.open(f"/proc/{token.pid}/fd/{token.fd}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, text) from None
    found = os.fstat(fd)
    if (found.st_dev, found.st_ino) != (token.device, token.inode):
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, text)
    return fd
