# The types of asked.py, for Cython.
cimport cython

cdef Py_ssize_t _HEADER_SIZE, _HEAD_SIZE, _BUCKET, _SLOT
cdef int _CHECKED, _LENGTH_AT, _KEY_AT, _NAME_AT, _TRIES
cdef unsigned int _REGIONS, _BUCKETS_OF_REGION


@cython.locals(digest=cython.uint, octets="const unsigned char*", region=cython.uint)
cdef (Py_ssize_t, cython.uint) _place_of(bytes key)


cdef class Asked:
    cdef object _buffer
    cdef const unsigned char[:] _octets
    cdef const unsigned int[:] _words

    cpdef object store(self, bytes client, bytes address, bytes name, object now, object until)

    @cython.locals(key=bytes, bucket=Py_ssize_t, tag=cython.uint, at=Py_ssize_t, number=Py_ssize_t,
                   body=Py_ssize_t, check=cython.uint, until=cython.uint, checked=bytes, _=int)
    cpdef str lookup(self, bytes client, bytes address, double now)


cdef class AskedNames:
    cdef object _path
    cdef Asked _table
    cdef tuple _identity
    cdef double _looked

    cpdef str lookup(self, bytes client, bytes address, double now)
    cdef object _refresh(self)
