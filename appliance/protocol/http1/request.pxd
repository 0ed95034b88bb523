cimport cython


cdef class Request:
    cdef public object kind
    cdef public str method
    cdef public str host
    cdef public int port
    cdef public bytes target
    cdef public int minor
    cdef public bytes head
    cdef public long long length
    cdef public bint keep
    cdef public bytes credentials
    cdef public bint expects
    cdef public bint upgrade
    cdef public bytes wire


@cython.locals(end=Py_ssize_t, head=bytes, request=Request)
cpdef Request begin_request(bytes data, object hop)
@cython.locals(end=Py_ssize_t, head=bytes, request=Request)
cdef Request _begin_tunnel(bytes data, object hop)
@cython.locals(request=Request)
cpdef Request parse_request(bytes head, object hop)
@cython.locals(
    host=bytes, length=bytes, coding=bytes, connection=bytes, via=bytes, upgrade=bytes, hops=bytes,
    forward=bint, method=str, target=bytes, kept=list, name=bytes, value=bytes, start=Py_ssize_t,
    end=Py_ssize_t, option=bytes, framing=bytes,
)
cdef object _fields(Request request, bytes authority, bytes head, Py_ssize_t at, object hop)
cdef bytes _framing(Request request, bytes length, bytes coding)
