cimport cython

from appliance.protocol.http1.client cimport ClientLeg
from appliance.protocol.http1.origin cimport OriginLeg
from appliance.protocol.http1.request cimport Request
from appliance.protocol.http1.response cimport Response
from appliance.proxy.gatekeeper cimport Client, Gatekeeper
from appliance.proxy.pool cimport Pooled
from appliance.proxy.stream cimport Owner, Stream
from appliance.session.record cimport Session

cdef object _DONE
cdef long long _SPLICED


cdef class Asker(Owner):
    cdef public Gatekeeper gate
    cdef public Client client
    cdef public Stream stream
    cdef public ClientLeg leg
    cdef public object judge
    cdef public tuple aliases

    cpdef object finished(self, Response response)


cdef class Exchange(Owner):
    cdef Asker _http
    cdef public Stream stream
    cdef public OriginLeg leg
    cdef Request _request
    cdef Session _session
    cdef bint _pooled
    cdef Response _response
    cdef bint _binds
    cdef object _spliced
    cdef bint _weighed
    cdef public bint started

    cpdef object begin(self, bytes body)
    cpdef object send(self, bytes data)
    cpdef object abort(self)
    cpdef object on_drained(self, Stream stream)
    @cython.locals(http=Asker, out=bytes, response=Response)
    cpdef object on_data(self, Stream stream, bytes data)
    cpdef object on_end(self, Stream stream)
    cpdef object on_unwritable(self, Stream stream)
    cpdef object on_broken(self, Stream stream, str why)
    @cython.locals(response=Response, gate=Gatekeeper, http=Asker, whole=bint)
    cpdef object _finish(self)


cpdef bint splices(Stream source, Stream target) except -1
