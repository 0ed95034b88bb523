cimport cython

from appliance.protocol.http1.leg cimport Leg
from appliance.protocol.http1.request cimport Request, begin_request, parse_request


cdef class ClientLeg(Leg):
    cdef int _empty
    cdef bint _forward
    cdef object _hop
    cdef public bint keep

    @cython.locals(request=Request, out=bytes)
    cpdef object feed(self, bytes data)
    cpdef Request finish(self, bint keep)
    cpdef bytes tunnel(self)
    @cython.locals(held=bytearray, start=Py_ssize_t, end=Py_ssize_t)
    cdef Request _gather(self, bytes data)
    @cython.locals(size=Py_ssize_t, body=bytes)
    cdef Request _enter(self, Request request, bytes data)
