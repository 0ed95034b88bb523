cimport cython

from appliance.proxy.context cimport Context
from appliance.proxy.relay cimport RelayContext, relay_on
from appliance.proxy.stream cimport Owner, Stream
from appliance.session.record cimport Session


@cython.locals(to_wan=bytes, to_lan=bytes)
cpdef object tunnel(
    Context context, RelayContext relay, Stream client, Stream origin, bytes early, Session session
)


cdef class CopiedTunnel(Owner):
    cdef Context _context
    cdef Stream _client
    cdef Stream _origin
    cdef Session _session
    cdef long long _moved
    cdef long _asked_at

    cdef long _watch(self, long second) except -1
    cpdef long _idle(self, long second) except -1
    cdef object _over(self, str reason)
    cdef Stream _other(self, Stream stream)
    @cython.locals(other=Stream)
    cpdef object on_data(self, Stream stream, bytes data)
    cpdef object on_drained(self, Stream stream)
    @cython.locals(other=Stream)
    cpdef object on_end(self, Stream stream)
    cpdef object on_finished(self, Stream stream)
    cpdef object on_broken(self, Stream stream, str why)
