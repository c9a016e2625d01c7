from shmkit cimport shmkit_status

cdef int check(shmkit_status status) except -1
cdef bytes text(object given, str what)
