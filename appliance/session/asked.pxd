# The types of asked.py, for Cython.
cimport cython

cdef Py_ssize_t _HEAD_SIZE, _SLOT


cdef class Asked:
    cdef object _buffer
    cdef const unsigned int[:] _words

    cpdef object store(self, bytes client, bytes address, bytes name, object now, object until)

    @cython.locals(key=bytes, bucket=Py_ssize_t, tag=cython.uint, at=Py_ssize_t, number=Py_ssize_t,
                   slot=Py_ssize_t)
    cpdef str lookup(self, bytes client, bytes address, double now)


cdef class AskedNames:
    cdef object _path
    cdef Asked _table
    cdef tuple _identity
    cdef double _looked

    cpdef str lookup(self, bytes client, bytes address, double now)
    cdef object _refresh(self)
