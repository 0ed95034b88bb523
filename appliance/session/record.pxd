cdef class Session:
    cdef public long long number
    cdef public str kind
    cdef public bytes endpoints
    cdef public bytes client
    cdef public str origin
    cdef public int origin_port
    cdef public str service
    cdef public double started
    cdef public str state
    cdef public long long to_lan
    cdef public long long to_wan
