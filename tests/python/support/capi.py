"""The C ABI in ctypes: structs, functions, and the library of the package."""

import contextlib
import ctypes
import os
import re
from ctypes import POINTER, byref, c_char_p, c_int32, c_int64, c_uint32, c_uint64, c_void_p

import shmkit

OK, INVALID, CLOSED, WRONG_KIND, NOT_FOUND, EXISTS = 0, -1, -2, -3, -4, -5
# What close() of NULL returns.
CLOSE_NULL = OK
TIMEOUT, WOULD_BLOCK, INTERRUPTED, NOT_OWNER = -10, -11, -12, -13
TOO_LARGE, UNSUPPORTED, VERSION_MISMATCH = -18, -23, -22
FOREVER, NOWAIT = -1, 0
INTERRUPTIBLE, READONLY, CREATED, SEALED = 1, 16, 2048, 4096

HOOK = ctypes.CFUNCTYPE(c_int32, c_void_p)
VISIT = ctypes.CFUNCTYPE(c_int32, c_char_p, c_void_p)


class Options(ctypes.Structure):
    """shmkit_segment_options."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("capacity", c_uint64),
        ("mode", c_uint32),
        ("participants", c_uint32),
        ("directory", c_char_p),
    ]


class Info(ctypes.Structure):
    """shmkit_segment_info."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        *((name, c_uint64) for name in ("size", "capacity", "allocated", "device", "inode", "links")),
        ("user", c_uint32),
        ("mode", c_uint32),
        ("id", c_uint64),
        ("control_bytes", c_uint64),
        ("participants", c_uint32),
        ("reserved", c_uint32),
    ]


class ObjectOptions(ctypes.Structure):
    """shmkit_object_options."""

    _fields_ = [
        *((name, c_uint32) for name in ("struct_size", "flags", "mode", "participants")),
        ("directory", c_char_p),
    ]


class LockInfo(ctypes.Structure):
    """shmkit_lock_info."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        *((name, c_uint64) for name in ("acquisitions", "contended", "recoveries", "contended_since")),
        *((name, c_uint64) for name in ("owner_ticket", "owner_namespace", "offset")),
        ("owner_pid", c_uint32),
        ("reserved", c_uint32),
    ]


class EventInfo(ctypes.Structure):
    """shmkit_event_info."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        *((name, c_uint64) for name in ("sets", "waits", "offset")),
    ]


class RWLockOptions(ctypes.Structure):
    """shmkit_rwlock_options."""

    _fields_ = [*ObjectOptions._fields_, ("readers", c_uint32), ("reserved", c_uint32)]


class RWLockInfo(ctypes.Structure):
    """shmkit_rwlock_info."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        *((name, c_uint64) for name in ("writes", "contended", "recoveries", "contended_since", "owner_ticket")),
        *((name, c_uint64) for name in ("owner_namespace", "offset", "readers")),
        *((name, c_uint32) for name in ("owner_pid", "reading_processes", "max_readers", "reserved")),
    ]


class BarrierOptions(ctypes.Structure):
    """shmkit_barrier_options."""

    _fields_ = [*ObjectOptions._fields_, ("parties", c_uint32), ("reserved", c_uint32)]


class BarrierInfo(ctypes.Structure):
    """shmkit_barrier_info."""

    _fields_ = [
        *((name, c_uint32) for name in ("struct_size", "flags", "parties", "waiting")),
        *((name, c_uint64) for name in ("turns", "breaks", "deaths", "offset")),
    ]


class ConditionOptions(ctypes.Structure):
    """shmkit_condition_options."""

    _fields_ = [*ObjectOptions._fields_, ("cells", c_uint32), ("reserved", c_uint32)]


class ConditionInfo(ctypes.Structure):
    """shmkit_condition_info."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        *((name, c_uint64) for name in ("cells", "waiting", "waits", "notified", "timeouts", "recoveries", "offset")),
    ]


class SemaphoreOptions(ctypes.Structure):
    """shmkit_semaphore_options."""

    _fields_ = [
        *ObjectOptions._fields_,
        ("value", c_uint64),
        ("maximum", c_uint64),
        ("processes", c_uint32),
        ("reserved", c_uint32),
    ]


class SemaphoreInfo(ctypes.Structure):
    """shmkit_semaphore_info."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        *((name, c_uint64) for name in ("value", "maximum", "waits", "recoveries", "holders", "offset")),
        ("processes", c_uint32),
        ("reserved", c_uint32),
    ]


class OnceInfo(ctypes.Structure):
    """shmkit_once_info."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        *(
            (name, c_uint64)
            for name in ("attempts", "recoveries", "waits", "owner_ticket", "owner_namespace", "offset")
        ),
        ("owner_pid", c_uint32),
        ("reserved", c_uint32),
    ]


class QueueOptions(ctypes.Structure):
    """shmkit_queue_options."""

    _fields_ = [
        *ObjectOptions._fields_,
        *((name, c_uint64) for name in ("capacity", "maxsize", "max_bytes")),
    ]


class QueueMessage(ctypes.Structure):
    """shmkit_queue_message."""

    _fields_ = [("data", c_void_p), ("size", c_uint64)]


QUEUE_FIGURES = [
    "messages",
    "bytes",
    "reserved",
    "leased",
    "puts",
    "gets",
    "overwritten",
    "skipped",
    "redelivered",
    "get_waits",
    "put_waits",
    "memory",
    "capacity",
    "maxsize",
    "max_bytes",
    "largest",
    "offset",
    "held_up_by_ticket",
    "held_up_by_namespace",
]


class QueueInfo(ctypes.Structure):
    """shmkit_queue_info."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        *((name, c_uint64) for name in QUEUE_FIGURES),
        ("held_up_by_pid", c_uint32),
        ("unused", c_uint32),
    ]


# The fields of shmkit_limits_info of type uint64_t.
FIGURES = [
    "largest_named",
    "largest_anonymous",
    "directory_total",
    "directory_free",
    "memory_total",
    "memory_available",
    "swap_total",
    "swap_free",
    "cgroup_limit",
    "cgroup_free",
    "commit_free",
    "file_size_limit",
    "locked_memory_limit",
    "address_space_limit",
    "open_files_limit",
    "page_size",
    "huge_page_size",
]


class Limits(ctypes.Structure):
    """shmkit_limits_info."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        *((name, c_uint64) for name in FIGURES),
        ("overcommit_policy", c_uint32),
        ("reserved", c_uint32),
    ]


STRUCTS = {
    "shmkit_segment_options": Options,
    "shmkit_segment_info": Info,
    "shmkit_limits_info": Limits,
    "shmkit_object_options": ObjectOptions,
    "shmkit_lock_info": LockInfo,
    "shmkit_rwlock_options": RWLockOptions,
    "shmkit_rwlock_info": RWLockInfo,
    "shmkit_event_info": EventInfo,
    "shmkit_barrier_options": BarrierOptions,
    "shmkit_barrier_info": BarrierInfo,
    "shmkit_once_info": OnceInfo,
    "shmkit_condition_options": ConditionOptions,
    "shmkit_condition_info": ConditionInfo,
    "shmkit_semaphore_options": SemaphoreOptions,
    "shmkit_semaphore_info": SemaphoreInfo,
    "shmkit_queue_options": QueueOptions,
    "shmkit_queue_message": QueueMessage,
    "shmkit_queue_info": QueueInfo,
}
PLAIN = {
    "shmkit_status": c_int32,
    "int32_t": c_int32,
    "uint32_t": c_uint32,
    "int64_t": c_int64,
    "uint64_t": c_uint64,
    "const char *": c_char_p,
    "char *": c_char_p,
    "shmkit_interrupt_hook": HOOK,
    "shmkit_segment_visit": VISIT,
}
DECLARATION = re.compile(r"^ +(?P<result>[\w ]+?[ *]+)(?P<name>shmkit_\w+)\((?P<arguments>.*)\)$", re.MULTILINE)


def ctype(declared):
    """Return the ctypes type of a C type such as "const char **". A pointer to an opaque type is a void pointer."""
    declared = declared.strip()
    if declared in PLAIN:
        return PLAIN[declared]
    pointee = declared.removeprefix("const ").removesuffix("*").strip()
    if pointee in STRUCTS:
        return POINTER(STRUCTS[pointee])
    if declared.startswith("const char"):
        return POINTER(c_char_p)
    if pointee.endswith("*"):
        return POINTER(c_void_p)
    return POINTER(PLAIN[pointee]) if pointee in PLAIN else c_void_p


def table():
    """Return the result type and the argument types of each function, read from libshmkit.pxd."""
    with open(os.path.join(os.path.dirname(shmkit.__file__), "libshmkit.pxd")) as file:
        text = file.read()
    found = {}
    for match in DECLARATION.finditer(text):
        arguments = [re.match(r"(.*[ *])\w+$", each.strip()).group(1) for each in match["arguments"].split(",") if each]
        found[match["name"]] = (ctype(match["result"]), [ctype(each) for each in arguments])
    return found


# The result type and the argument types of each function.
TABLE = table()


def load():
    """Return the package's library with the types of each function set."""
    library = ctypes.CDLL(shmkit.library_path())
    for name, (result, takes) in TABLE.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, takes
    return library


LIB = load()
with open(os.path.join(shmkit.get_include(), "shmkit.h")) as file:
    HEADER = file.read()


class Calls:
    """The functions of a noun by their verbs, and the structs they take."""

    def __init__(self, noun):
        prefix = f"shmkit_{noun}_"
        self.noun = noun
        self.table = {name[len(prefix) :]: takes for name, (_, takes) in TABLE.items() if name.startswith(prefix)}
        for verb in self.table:
            setattr(self, verb, getattr(LIB, prefix + verb))
        self.options_type, self.info_type = (self.table[verb][1]._type_ for verb in ("create", "stat"))

    def options(self, **fields):
        """Return options with struct_size set."""
        return byref(self.options_type(struct_size=ctypes.sizeof(self.options_type), **fields))

    @contextlib.contextmanager
    def made(self, **fields):
        """Yield the handle of an unnamed object; the block may close it."""
        handle = c_void_p()
        assert self.create(None, self.options(**fields) if fields else None, byref(handle)) == OK
        yield handle
        assert self.close(handle) in (OK, CLOSED)

    def info(self, handle):
        """Return the info struct of an object."""
        info = self.info_type(struct_size=ctypes.sizeof(self.info_type))
        assert self.stat(handle, byref(info)) == OK
        assert info.struct_size == ctypes.sizeof(info)
        return info


def last_error():
    """Return the status, errno and text of shmkit_last_error."""
    code, number, text = c_int32(), c_int32(), c_char_p()
    assert LIB.shmkit_last_error(byref(code), byref(number), byref(text)) == OK
    return code.value, number.value, text.value.decode()


def options(**fields):
    """Return options with struct_size set."""
    return byref(Options(struct_size=ctypes.sizeof(Options), **fields))


def got(function, handle, kind):
    """Call a function that stores one number or string of an object, and return the value."""
    out = kind() if kind is c_char_p else kind(77)
    assert function(handle, byref(out)) == OK
    return out.value
