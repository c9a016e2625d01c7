"""Hands file descriptors over to other processes inside pickles.

To a child that is just being spawned the spawner passes the descriptor itself. To a process that runs already goes a
note of where the descriptor stands, which it opens through /proc/PID/fd and compares; where others may not look there,
multiprocessing's resource sharer serves it. None of these keeps the memory alive after the sender has let go.
"""

import os
from multiprocessing import context, reduction
from typing import NamedTuple


class Note(NamedTuple):
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


def give(fd, device, inode):
    """Return what a pickle carries for a descriptor of this process."""
    if context.get_spawning_popen() is None and _others_may_look():
        return Note(os.getpid(), fd, device, inode, _pid_namespace())
    return reduction.DupFd(fd)


def take(token):
    """Return a new descriptor for what a pickle carries; the caller closes it."""
    if not isinstance(token, Note):
        return token.detach()
    if token.pid_namespace != _pid_namespace():
        raise FileNotFoundError("the pickled segment lives in another PID namespace: share it by name or by descriptor")
    fd = os.open(f"/proc/{token.pid}/fd/{token.fd}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    found = os.fstat(fd)
    if (found.st_dev, found.st_ino) != (token.device, token.inode):
        os.close(fd)
        raise FileNotFoundError(f"process {token.pid} has closed the pickled segment")
    return fd
