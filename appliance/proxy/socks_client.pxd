from appliance.proxy.context cimport Context
from appliance.proxy.dialer cimport Dial
from appliance.proxy.gatekeeper cimport Client, Gatekeeper
from appliance.proxy.stream cimport Owner, Stream
from appliance.session.record cimport Session


cdef class SocksClient(Owner):
    cdef Gatekeeper _gate
    cdef Context _context
    cdef public Client client
    cdef public Stream stream
    cdef object _server
    cdef Dial _dial
    cdef Session _session
    cdef bint _over
    cdef object _association
    cdef long _until

    cdef object _settle(self)
    cpdef object on_data(self, Stream stream, bytes data)
    cpdef object on_end(self, Stream stream)
    cpdef object on_broken(self, Stream stream, str why)
