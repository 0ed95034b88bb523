cimport cython

from appliance.protocol.http1.origin cimport OriginLeg
from appliance.proxy.context cimport Context
from appliance.proxy.stream cimport Owner, Stream

cdef Py_ssize_t _EACH, _ALL


cdef class Pooled:
    cdef public Stream stream
    cdef public OriginLeg leg
    cdef public str address
    cdef public tuple aliases
    cdef public tuple key
    cdef public long until


cdef class Pool(Owner):
    cdef Context _context
    cdef dict _idle
    cdef dict _known

    @cython.locals(waiting=list, found=Pooled)
    cpdef Pooled take(self, tuple key)
    @cython.locals(waiting=list)
    cpdef object give(self, Pooled pooled)
    @cython.locals(waiting=list, pooled=Pooled)
    cdef object _forget(self, int fd)
    cpdef object on_data(self, Stream stream, bytes data)
    cpdef object on_end(self, Stream stream)
    cpdef object on_broken(self, Stream stream, str why)
