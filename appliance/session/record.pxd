cimport cython


cdef dict _texts

@cython.locals(known=str)
cpdef str address_text(bytes packed)
# A slice of C's octets is made at once; one of a bytes object goes by three more objects.
@cython.locals(octets="const unsigned char*")
cdef bytes _address_at(bytes endpoints, int place)
@cython.locals(octets="const unsigned char*")
cdef int _port_at(bytes endpoints, int place)


cdef class Session:
    cdef public long long number
    cdef public str kind
    cdef public bytes endpoints
    cdef public bytes client
    cdef public int client_port
    cdef public int server_port
    cdef public str origin
    cdef public int origin_port
    cdef public str rule
    cdef public str service
    cdef public str name
    cdef public str named_by
    cdef public str user
    cdef public str dns_name
    cdef public str device
    cdef public str reference
    cdef public double started
    cdef public str state
    cdef public long long rate
    cdef public long long to_lan
    cdef public long long to_wan

    @cython.locals(service=str, named=str, where=str, server=str, age_ms="long long", wall_ms="long long")
    cpdef str log_line(self, int worker, double now, double wall, str reason, bint destinations=*)
