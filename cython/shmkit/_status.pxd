from shmkit cimport shmkit_status

# Sets the full name of a cdef class; `name` must be static.
cdef void publish(object kind, const char *name) noexcept
# Raises the exception of a status, unless it is SHMKIT_OK.
cdef int check(shmkit_status status) except -1
# Returns the exception of a status, with this text.
cdef object make_error(shmkit_status status, str text)
# Returns a name or path as bytes for C; `what` names it in the error.
cdef bytes text(object given, str what)
