"""Creates shmkit.__pyx_capi__: the C functions as capsules, so that ``cimport shmkit`` needs no linking.

Only this module links to the library. The other modules find its functions like any user of the package.
"""

from cpython.pycapsule cimport PyCapsule_New
from shmkit cimport libshmkit as c

include "_capsules.pxi"

cdef extern from "dlfcn.h":
    ctypedef struct Dl_info:
        const char *dli_fname
    int dladdr(const void *address, Dl_info *info)


def table():
    """Return a dict of capsules by function name. The name of a capsule is the C signature as Cython writes it."""
    # A capsule keeps only the pointer to its name. The bytes stay in _TABLE as long as the process runs.
    return {name: PyCapsule_New(<void *><size_t> address, <const char *> signature, NULL)
            for name, signature, address in _TABLE}


def version():
    """Return the version of the library."""
    return c.shmkit_version_string().decode()


def path():
    """Return the path of the file that the library was loaded from, as bytes."""
    cdef Dl_info info
    if dladdr(<const void *> c.shmkit_version, &info) == 0:
        raise RuntimeError("dladdr does not find the library of shmkit_version: report this as a bug")
    return <bytes> info.dli_fname
