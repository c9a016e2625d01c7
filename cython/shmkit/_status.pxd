from shmkit cimport shmkit_status

# Sets the full name of a cdef class: a static string.
cdef void publish(object kind, const char *name) noexcept
cdef int check(shmkit_status status) except -1
cdef object make_error(shmkit_status status, str text)
cdef bytes text(object given, str what)
