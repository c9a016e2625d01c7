"""The C ABI as ctypes declares it: structs, functions, and the package's own library."""

import ctypes
import os
from ctypes import POINTER, byref, c_char_p, c_int32, c_int64, c_uint32, c_uint64, c_void_p

import shmkit

OK, INVALID, CLOSED, WRONG_KIND, NOT_FOUND, EXISTS = 0, -1, -2, -3, -4, -5
# What close() of NULL returns.
CLOSE_NULL = OK
TOO_LARGE, INTERRUPTED, UNSUPPORTED, VERSION_MISMATCH = -18, -12, -23, -22
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


# Its figures, all of them uint64_t.
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
MAKE = [c_char_p, c_uint64, POINTER(Options), POINTER(c_void_p)]

# Each function: what it returns, and what it takes.
TABLE = {
    "shmkit_version": (c_uint32, []),
    "shmkit_version_string": (c_char_p, []),
    "shmkit_check_version": (c_int32, [c_uint32]),
    "shmkit_strerror": (c_char_p, [c_int32]),
    "shmkit_last_error": (c_int32, [POINTER(c_int32), POINTER(c_int32), POINTER(c_char_p)]),
    "shmkit_set_interrupt": (c_int32, [HOOK, c_void_p]),
    "shmkit_limits": (c_int32, [c_char_p, POINTER(Limits)]),
    "shmkit_limits_line": (c_int32, [c_char_p, c_char_p, c_uint64]),
    "shmkit_segment_create": (c_int32, MAKE),
    "shmkit_segment_open": (c_int32, MAKE),
    "shmkit_segment_open_or_create": (c_int32, MAKE),
    "shmkit_segment_open_fd": (c_int32, [c_int32, *MAKE[1:]]),
    "shmkit_segment_resize": (c_int32, [c_void_p, c_uint64, c_uint32]),
    "shmkit_segment_data": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "shmkit_segment_size": (c_int32, [c_void_p, POINTER(c_uint64)]),
    "shmkit_segment_capacity": (c_int32, [c_void_p, POINTER(c_uint64)]),
    "shmkit_segment_fd": (c_int32, [c_void_p, POINTER(c_int32)]),
    "shmkit_segment_name": (c_int32, [c_void_p, POINTER(c_char_p)]),
    "shmkit_segment_directory": (c_int32, [c_void_p, POINTER(c_char_p)]),
    "shmkit_segment_huge": (c_int32, [c_void_p, POINTER(c_uint64)]),
    "shmkit_segment_stat": (c_int32, [c_void_p, POINTER(Info)]),
    "shmkit_segment_unlink": (c_int32, [c_void_p]),
    "shmkit_segment_unlink_name": (c_int32, [c_char_p, c_char_p, c_uint64, c_uint64, c_uint32]),
    "shmkit_segment_list": (c_int32, [c_char_p, VISIT, c_void_p]),
    "shmkit_segment_gc": (c_int32, [c_char_p, c_uint32, POINTER(c_uint64)]),
    "shmkit_segment_close": (c_int32, [c_void_p]),
    "shmkit_segment_lock": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "shmkit_rlock_depth": (c_int32, [c_void_p, POINTER(c_uint64)]),
}
MAKE_LOCK = [POINTER(ObjectOptions), POINTER(c_void_p)]

# What locks of both kinds have.
LOCK_TABLE = {
    "size": [POINTER(ObjectOptions), POINTER(c_uint64)],
    "create": [c_char_p, *MAKE_LOCK],
    "open": [c_char_p, *MAKE_LOCK],
    "open_or_create": [c_char_p, *MAKE_LOCK],
    "create_at": [c_void_p, c_uint64, *MAKE_LOCK],
    "open_at": [c_void_p, c_uint64, *MAKE_LOCK],
    "open_fd": [c_int32, c_uint64, *MAKE_LOCK],
    "fd": [c_void_p, POINTER(c_int32), POINTER(c_uint64)],
    "segment": [c_void_p, POINTER(c_void_p)],
    "acquire": [c_void_p, c_int64, c_uint32, POINTER(c_uint32)],
    "release": [c_void_p],
    "mark_consistent": [c_void_p],
    "stat": [c_void_p, POINTER(LockInfo)],
    "unlink": [c_void_p],
    "close": [c_void_p],
}
for verb, arguments in LOCK_TABLE.items():
    TABLE |= {f"shmkit_{noun}_{verb}": (c_int32, arguments) for noun in ("lock", "rlock")}


def object_table(options, info):
    """Return what every noun has that stands at a place: its functions and what they take."""
    make = [POINTER(options), POINTER(c_void_p)]
    return {
        "size": [POINTER(options), POINTER(c_uint64)],
        "create": [c_char_p, *make],
        "open": [c_char_p, *make],
        "open_or_create": [c_char_p, *make],
        "create_at": [c_void_p, c_uint64, *make],
        "open_at": [c_void_p, c_uint64, *make],
        "open_fd": [c_int32, c_uint64, *make],
        "fd": [c_void_p, POINTER(c_int32), POINTER(c_uint64)],
        "segment": [c_void_p, POINTER(c_void_p)],
        "stat": [c_void_p, POINTER(info)],
        "unlink": [c_void_p],
        "close": [c_void_p],
    }


EVENT_TABLE = {
    **object_table(ObjectOptions, EventInfo),
    "set": [c_void_p],
    "clear": [c_void_p],
    "is_set": [c_void_p, POINTER(c_uint32)],
    "wait": [c_void_p, c_int64, c_uint32],
}
TABLE |= {f"shmkit_event_{verb}": (c_int32, arguments) for verb, arguments in EVENT_TABLE.items()}
ONCE_TABLE = {
    **object_table(ObjectOptions, OnceInfo),
    "begin": [c_void_p, c_int64, c_uint32, POINTER(c_uint32), POINTER(c_uint32)],
    "done": [c_void_p],
    "abort": [c_void_p],
    "is_done": [c_void_p, POINTER(c_uint32)],
}
TABLE |= {f"shmkit_once_{verb}": (c_int32, arguments) for verb, arguments in ONCE_TABLE.items()}

BARRIER_TABLE = {
    **object_table(BarrierOptions, BarrierInfo),
    "wait": [c_void_p, c_int64, c_uint32, POINTER(c_uint32)],
    "pass": [c_void_p],
    "reset": [c_void_p],
    "abort": [c_void_p],
    "parties": [c_void_p, POINTER(c_uint32)],
    "waiting": [c_void_p, POINTER(c_uint32)],
    "is_broken": [c_void_p, POINTER(c_uint32)],
}
TABLE |= {f"shmkit_barrier_{verb}": (c_int32, arguments) for verb, arguments in BARRIER_TABLE.items()}

SEMAPHORE_TABLE = {
    **object_table(SemaphoreOptions, SemaphoreInfo),
    "acquire": [c_void_p, c_uint32, c_int64, c_uint32],
    "release": [c_void_p, c_uint32],
    "value": [c_void_p, POINTER(c_uint64)],
    "held": [c_void_p, POINTER(c_uint64)],
}
TABLE |= {f"shmkit_semaphore_{verb}": (c_int32, arguments) for verb, arguments in SEMAPHORE_TABLE.items()}

CONDITION_TABLE = {
    **object_table(ConditionOptions, ConditionInfo),
    "wait": [c_void_p, c_void_p, c_int64, c_uint32, POINTER(c_uint32)],
    "notify": [c_void_p, c_void_p, c_uint32],
    "notify_all": [c_void_p, c_void_p],
}
TABLE |= {f"shmkit_condition_{verb}": (c_int32, arguments) for verb, arguments in CONDITION_TABLE.items()}


RWLOCK_TABLE = {
    **object_table(RWLockOptions, RWLockInfo),
    "acquire_read": [c_void_p, c_int64, c_uint32, POINTER(c_uint32)],
    "release_read": [c_void_p],
    "acquire_write": [c_void_p, c_int64, c_uint32, POINTER(c_uint32)],
    "release_write": [c_void_p],
    "upgrade": [c_void_p, c_int64, c_uint32],
    "downgrade": [c_void_p],
    "mark_consistent": [c_void_p],
}
TABLE |= {f"shmkit_rwlock_{verb}": (c_int32, arguments) for verb, arguments in RWLOCK_TABLE.items()}

QUEUE_TABLE = {
    **object_table(QueueOptions, QueueInfo),
    "put": [c_void_p, c_int64, c_uint32, c_void_p, c_uint64],
    "get": [c_void_p, c_int64, c_uint32, c_void_p, c_uint64, POINTER(c_uint64)],
    "peek": [c_void_p, c_int64, c_uint32, c_void_p, c_uint64, POINTER(c_uint64)],
    "put_many": [c_void_p, c_int64, c_uint32, POINTER(QueueMessage), c_uint64, POINTER(c_uint64)],
    "get_many": [
        *(c_void_p, c_int64, c_uint32, c_void_p, c_uint64),
        *(POINTER(c_uint64), c_uint64, POINTER(c_uint64)),
    ],
    "reserve": [c_void_p, c_int64, c_uint32, c_uint64, POINTER(c_void_p), POINTER(c_uint64)],
    "commit": [c_void_p, c_uint64, c_uint64],
    "abort": [c_void_p, c_uint64],
    "lease": [
        *(c_void_p, c_int64, c_uint32),
        *(POINTER(c_void_p), POINTER(c_uint64), POINTER(c_uint64), POINTER(c_uint32)),
    ],
    "ack": [c_void_p, c_uint64],
    "nack": [c_void_p, c_uint64],
    "join": [c_void_p, c_int64, c_uint32],
    "shutdown": [c_void_p],
    "fileno": [c_void_p, c_uint32, POINTER(c_int32)],
    "is_full": [c_void_p, POINTER(c_uint32)],
}
TABLE |= {f"shmkit_queue_{verb}": (c_int32, arguments) for verb, arguments in QUEUE_TABLE.items()}


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

    def info(self, handle):
        """Return the info struct of an object."""
        info = self.info_type(struct_size=ctypes.sizeof(self.info_type))
        assert self.stat(handle, byref(info)) == OK
        assert info.struct_size == ctypes.sizeof(info)
        return info


def last_error():
    """Return what shmkit_last_error tells: status, errno, text."""
    code, number, text = c_int32(), c_int32(), c_char_p()
    assert LIB.shmkit_last_error(byref(code), byref(number), byref(text)) == OK
    return code.value, number.value, text.value.decode()


def options(**fields):
    """Return options with struct_size set."""
    return byref(Options(struct_size=ctypes.sizeof(Options), **fields))


def got(function, handle, kind):
    """Call a function that tells one thing of a segment, and return that."""
    out = kind()
    assert function(handle, byref(out)) == OK
    return out.value
