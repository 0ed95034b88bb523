cimport cython

from appliance.protocol.http1.client cimport ClientLeg
from appliance.protocol.http1.origin cimport OriginLeg
from appliance.protocol.http1.request cimport Request
from appliance.protocol.http1.response cimport Response
from appliance.proxy.context cimport Context
from appliance.proxy.dialer cimport Dial
from appliance.proxy.gatekeeper cimport Client, Gatekeeper
from appliance.proxy.pool cimport Pool, Pooled
from appliance.proxy.relay cimport RelayContext
from appliance.proxy.stream cimport Owner, Stream
from appliance.proxy.tunnel cimport tunnel
from appliance.session.record cimport Session

cdef object _DONE, _CLOSED, _BODY, _CHUNKS, _TUNNEL, _FORWARDS, _TUNNELS, _PAGE, _SELF
cdef Py_ssize_t _MOST_UNSENT
cdef long long _SPLICED


cdef class HttpClient(Owner):
    cdef Gatekeeper _gate
    cdef Context _context
    cdef public Client client
    cdef public Stream stream
    cdef public ClientLeg leg
    cdef public Request request
    cdef public object judge
    cdef public RelayContext relay
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


cdef class _Lingering(Owner):
    cdef Stream _stream

    cpdef object on_end(self, Stream stream)
    cpdef int over(self, long _second) except -1


cdef class Exchange(Owner):
    cdef HttpClient _http
    cdef public Stream stream
    cdef public OriginLeg leg
    cdef Request _request
    cdef Session _session
    cdef bint _pooled
    cdef Response _response
    cdef bint _binds
    cdef object _spliced
    cdef public bint started

    cpdef object begin(self, bytes body)
    cpdef object send(self, bytes data)
    cpdef object abort(self)
    cpdef object on_drained(self, Stream stream)
    @cython.locals(http=HttpClient, out=bytes, response=Response)
    cpdef object on_data(self, Stream stream, bytes data)
    cpdef object on_end(self, Stream stream)
    cpdef object on_broken(self, Stream stream, str why)
    @cython.locals(response=Response, gate=Gatekeeper)
    cpdef object _finish(self)


cpdef bint splices(Stream source, Stream target) except -1
