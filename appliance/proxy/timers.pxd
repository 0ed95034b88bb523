cimport cython


cdef class Timers:
    cdef dict _buckets
    cdef long _second

    @cython.locals(bucket=dict)
    cpdef object add(self, long at, object check)
    @cython.locals(bucket=dict)
    cpdef object discard(self, long at, object check)
