cimport cython

from appliance.proxy.context cimport Context
from appliance.proxy.http_client cimport HttpClient
from appliance.proxy.gatekeeper cimport Client, Gatekeeper, Terms
from appliance.proxy.kernel cimport Kernel
from appliance.proxy.loop cimport Handler
from appliance.proxy.socks_client cimport SocksClient
from appliance.proxy.stream cimport Owner, Stream, Tls

cdef int _ACCEPTS


cdef class Port(Handler):
    cdef public int fd
    cdef public Terms terms
    cdef Explicit _explicit
    cdef Kernel _kernel

    @cython.locals(fd=int, _=int)
    cpdef object on_event(self, unsigned int events)


cdef class ClientStream(Stream):
    cdef bytes _client
    cdef dict _counts

    @cython.locals(left=long)
    cdef object _leave(self)
    cpdef int detach(self) except -1
    cpdef object close(self)


cdef class Greeting(Owner):
    cdef Explicit _explicit
    cdef Client _client
    cdef Stream _stream
    cdef bytes _held
    cdef bint _over
    cdef long _until

    cdef object _leave(self)
    cpdef object on_end(self, Stream stream)
    cpdef object on_broken(self, Stream stream, str why)
    cpdef object on_secured(self, Stream stream)
    @cython.locals(explicit=Explicit, owner=Owner, tls=Tls)
    cpdef object on_data(self, Stream stream, bytes data)


cdef class Explicit:
    cdef public Context context
    cdef public Gatekeeper gate
    cdef public object certificate
    cdef object _asking
    cdef public long waiting
    cdef dict _ports
    cdef dict _connections
    cdef long _most
    cdef public list problems

    @cython.locals(context=Context, client=Client, stream=Stream)
    cpdef object take_up(self, Terms terms, int fd, bytes endpoints)
