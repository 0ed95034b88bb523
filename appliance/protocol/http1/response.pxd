cimport cython

from appliance.protocol.http1.request cimport Request


cdef class Response:
    cdef public int status
    cdef public bint keep
    cdef public bytes head
    cdef public bint keep_origin
    cdef public long long length
    cdef public bytes wire


cpdef Response parse_response(bytes head, Request asked, object hop, bint keep)
@cython.locals(
    end_of_head=Py_ssize_t, head=bytes, version=bytes, code=bytes, status=int, response=Response,
    length=bytes, coding=bytes, closes=bint, connection=bytes, upgrade=bytes, at=Py_ssize_t, kept=list,
    name=bytes, value=bytes, start=Py_ssize_t, end=Py_ssize_t, option=bytes,
)
cpdef Response begin_response(bytes data, Request asked, object hop, bint keep)
cdef object _interim(Response response, Request asked, list kept, bytes version, bint switches)
@cython.locals(octets="long long")
cdef object _framing(Response response, Request asked, bytes version, bytes length, bytes coding, list kept)
