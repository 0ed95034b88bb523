cimport cython

from appliance.proxy.context cimport Context
from appliance.proxy.kernel cimport Kernel
from appliance.proxy.loop cimport Handler
from appliance.proxy.transparent cimport Transparent

cdef int _TCP, _ICMPV6, _FRAGMENT


cdef class Packets(Handler):
    cdef Context _context
    cdef Transparent _transparent
    cdef object _pings
    cdef object _reassembly
    cdef public bint broken

    @cython.locals(context=Context, kernel=Kernel, _=int, protocol=int)
    cpdef object on_event(self, unsigned int events)
