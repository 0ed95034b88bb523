from appliance.proxy.context cimport Context
from appliance.proxy.dialer cimport Dialer
from appliance.proxy.pool cimport Pool
from appliance.proxy.relay cimport RelayContext


cdef class Terms:
    cdef public str name
    cdef public int port
    cdef public str mode
    cdef public bint tls
    cdef public bint asks_user
    cdef public bint by_certificate
    cdef public bint by_password
    cdef public bint pages_only
    cdef public bint over


cdef class Client:
    cdef public bytes endpoints
    cdef public Terms terms
    cdef public str user


cdef class Gatekeeper:
    cdef public Context context
    cdef public RelayContext relay
    cdef public Dialer dialer
    cdef public object verifier
    cdef public object access
    cdef public Pool pool
    cdef public object hop
    cdef public bint hears_names
    cdef public bint draining
    cdef object _config
    cdef frozenset _connect_ports
    cdef frozenset _socks_ports
    cdef frozenset _users
    cdef bint _by_client
    cdef bytes _authority

    cpdef bint needs_user(self, Client client) except -1
    cpdef object may_go(self, Client client, int port, bint connect=*, bint socks=*)
