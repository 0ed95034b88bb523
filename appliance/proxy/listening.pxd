cimport cython

from appliance.proxy.context cimport Context, Destination
from appliance.proxy.kernel cimport Kernel
from appliance.proxy.loop cimport Handler, Timer
from appliance.proxy.relay cimport RelayContext, relay_on
from appliance.session.record cimport Session


cdef class _Origin(Handler):
    cpdef object on_event(self, unsigned int events)


cdef class Listening(Handler):
    cdef int _client
    cdef Context _context
    cdef bytes _data
    cdef int _origin
    cdef bint _over
    cdef RelayContext _relay
    cdef set _relayed
    cdef Session _session
    cdef Destination _target
    cdef Timer _timer

    @cython.locals(kernel=Kernel, size=Py_ssize_t)
    cpdef object on_event(self, unsigned int events)
    cpdef object abandon(self)
    @cython.locals(session=Session, data=bytes, name=str)
    cdef object _judge(self, object found)
    cdef object _deny(self, str rule)
    @cython.locals(context=Context, fd=int)
    cdef object _end(self, str reason)
