# The types of cache.py, for Cython.
cimport cython


cdef class Answer:
    cdef public bytes packet
    cdef public long long seconds
    cdef public tuple fields


cdef class Entry:
    cdef public bytes tail
    cdef public bytes udp
    cdef public bint fits
    cdef public long long stored
    cdef public long long expires
    cdef public long long patched
    cdef public tuple fields
    cdef public object mark
    cdef public tuple addresses
    cdef public tuple aliases


cdef class Cache:
    cdef Py_ssize_t _max_entries
    cdef Py_ssize_t _max_octets
    cdef Py_ssize_t _octets
    cdef dict _entries

    @cython.locals(entry=Entry, tail=bytearray, age="long long", offset=Py_ssize_t, ttl="long long")
    cpdef Entry get(self, bytes key, long long now)

    @cython.locals(entry=Entry, tail=bytes, fits=bint, size=Py_ssize_t)
    cpdef Entry put(self, bytes key, Answer answer, bytes udp, long long now)

    @cython.locals(entry=Entry)
    cdef object _remove(self, bytes key)
