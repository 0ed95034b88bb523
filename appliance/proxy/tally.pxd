cimport cython

cdef int _NEW, _SECOND, _USED, _STRIDE


cdef class Tally:
    cdef long long[::1] _words
    cdef int _at

    cpdef object tell(self, int what, long long count)
    @cython.locals(total=cython.longlong, place=cython.int, at=cython.int)
    cpdef long long others(self, int what) except -1
    @cython.locals(total=cython.longlong, place=cython.int, at=cython.int)
    cpdef long long others_new(self, long long second) except -1
