cimport cython

from appliance.protocol.http1.origin cimport OriginLeg
from appliance.protocol.http1.request cimport Request
from appliance.protocol.http1.response cimport Response
from appliance.proxy.context cimport Context
from appliance.proxy.dialer cimport Dial
from appliance.proxy.exchange cimport Asker, Exchange
from appliance.proxy.pool cimport Pool, Pooled
from appliance.proxy.stream cimport Stream
from appliance.proxy.tunnel cimport tunnel
from appliance.session.record cimport Session

cdef object _DONE, _CLOSED, _BODY, _CHUNKS, _TUNNEL, _FORWARDS, _TUNNELS, _PAGE, _SELF
cdef Py_ssize_t _MOST_UNSENT
cdef long long _SPLICED


cdef class HttpClient(Asker):
    cdef Context _context
    cdef public Request request
    cdef bint _by_certificate
    cdef bytes _body
    cdef bint _form
    cdef Exchange _origin
    cdef Dial _dial
    cdef Session _session
    cdef Request _following
    cdef bint _serving
    cdef bint _closing
    cdef long _deadline
    cdef long _asked_at
    cdef long long _moved
    cdef long _moved_at
    cdef double _heard

    cdef object _watch(self, long deadline)
    cdef object _unwatch(self)
    cdef bint _stalls(self, long second) except -1
    cpdef object on_data(self, Stream stream, bytes data)
    cdef object _on_event(self, object event)
    cpdef object on_end(self, Stream stream)
    cpdef object on_broken(self, Stream stream, str why)
    @cython.locals(origin=Exchange)
    cpdef object on_drained(self, Stream stream)
    cdef object _begin(self, Request request)
    cdef bint _keeps(self) except -1
    @cython.locals(context=Context, session=Session, pooled=Pooled)
    cpdef object _admit(self, Request request)
    @cython.locals(request=Request, session=Session, origin=Exchange)
    cdef object _exchange(self, Stream stream, OriginLeg leg, str address, bint pooled)
    @cython.locals(origin=Exchange)
    cdef object _send_body(self, bytes data)
    @cython.locals(session=Session, early=bytes)
    cdef object _tunnel(self, Stream origin, str address, bytes reply, bytes first)
    cpdef object finished(self, Response response)
    cdef object _done(self, bint keep, str end)
    @cython.locals(following=Request)
    cdef object _serve_following(self)
    cdef object _end(self, str reason)
    cdef object _close(self)
