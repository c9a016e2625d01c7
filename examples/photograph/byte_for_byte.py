"""Read the segment through the C functions of the library with ctypes, without the classes of the package."""

import ctypes

import shmkit
from ending import DemoError

READONLY = 16  # SHMKIT_SEGMENT_READONLY in shmkit.h


class Options(ctypes.Structure):
    """The C structure shmkit_segment_options."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("capacity", ctypes.c_uint64),
        ("mode", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("directory", ctypes.c_char_p),
    )


LIBRARY = ctypes.CDLL(shmkit.library_path())
LIBRARY.shmkit_segment_open.argtypes = [ctypes.c_char_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p]
LIBRARY.shmkit_segment_data.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
LIBRARY.shmkit_segment_close.argtypes = [ctypes.c_void_p]
LIBRARY.shmkit_strerror.restype = ctypes.c_char_p

MEMCMP = ctypes.CDLL(None).memcmp
MEMCMP.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


def check(status):
    """Raise DemoError with the text of a status other than SHMKIT_OK."""
    if status != 0:
        raise DemoError(f"ctypes: {LIBRARY.shmkit_strerror(status).decode()}")


def same_bytes(name, offset, array):
    """Return whether the bytes of a segment from `offset` on equal those of an array."""
    segment, data = ctypes.c_void_p(), ctypes.c_void_p()
    options = Options(struct_size=ctypes.sizeof(Options), flags=READONLY)
    min_size = offset + array.nbytes
    check(LIBRARY.shmkit_segment_open(name.encode(), min_size, ctypes.byref(options), ctypes.byref(segment)))
    try:
        check(LIBRARY.shmkit_segment_data(segment, ctypes.byref(data)))
        return MEMCMP(data.value + offset, array.ctypes.data, array.nbytes) == 0
    finally:
        check(LIBRARY.shmkit_segment_close(segment))
