from shmkit cimport shmkit_status

cdef int check(shmkit_status status) except -1
cdef object refusal(shmkit_status status, str text)
cdef bytes text(object given, str what)
