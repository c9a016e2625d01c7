"""Makes shmkit.__pyx_capi__: the C functions as capsules, so that ``cimport shmkit`` needs no linking.

The only module that links to the library: the others find its functions as any user of the package does.
"""

from cpython.pycapsule cimport PyCapsule_New
from shmkit cimport libshmkit as c

include "_capsules.pxi"

cdef extern from "dlfcn.h":
    ctypedef struct Dl_info:
        const char *dli_fname
    int dladdr(const void *address, Dl_info *info)


def table():
    """Return a dict of capsules by function name, each named by its C signature as Cython writes it."""
    # A capsule keeps the pointer to its name, not the name: the bytes live in _TABLE, for ever.
    return {name: PyCapsule_New(<void *><size_t> address, <const char *> signature, NULL)
            for name, signature, address in _TABLE}


def version():
    """Return the version of the library."""
    return c.shmkit_version_string().decode()


def path():
    """Return the path of the file that the library was loaded from, as bytes."""
    cdef Dl_info info
    if dladdr(<const void *> c.shmkit_version, &info) == 0:
        raise RuntimeError("the dynamic linker does not know where shmkit_version was loaded from")
    return <bytes> info.dli_fname
