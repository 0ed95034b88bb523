cimport cython


cdef class Leg:
    cdef public object state
    cdef public long long left
    cdef public long long content
    cdef object _chunks
    cdef bytearray _held
    cdef tuple _steps

    cdef object _go(self, object happened)
    cpdef object passed(self, long long octets)
    @cython.locals(held=bytes)
    cpdef bytes take(self)
    cdef bytes _start_body(self, long long length, bint reframe, bytes data)
    @cython.locals(surplus="long long")
    cdef bytes _body(self, bytes data)
