cimport cython

from appliance.protocol.http1.leg cimport Leg
from appliance.protocol.http1.request cimport Request
from appliance.protocol.http1.response cimport Response, begin_response, parse_response


cdef class OriginLeg(Leg):
    cdef object _hop
    cdef Request _asked
    cdef int _interims
    cdef bint _keep
    cdef public bint closing
    cdef public bint started

    cpdef object ask(self, Request request)
    cpdef object feed(self, bytes data)
    @cython.locals(asked=Request, response=Response, before=bytes, rest=bytes, body=bytes, size=Py_ssize_t)
    cdef object _heads(self, bytes data)
    @cython.locals(held=bytearray, start=Py_ssize_t, end=Py_ssize_t)
    cdef bytes _gather(self, bytes data)
