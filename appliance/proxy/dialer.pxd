cimport cython

from appliance.proxy.context cimport Context
from appliance.proxy.kernel cimport Kernel
from appliance.proxy.loop cimport Handler, Timer

cdef unsigned int _SETTLED, _FAILED, _EVENTS


cdef class Dialled(Handler):
    cdef public int fd
    cdef public bytes address
    cdef public str text
    cdef public tuple aliases
    cdef public unsigned int events
    cdef Dial _dial

    @cython.locals(dial=Dial)
    cpdef object on_event(self, unsigned int events)
    @cython.locals(dial=Dial)
    cpdef object abandon(self)
    cpdef Dialled release(self)


cdef class Dial(Handler):
    cdef list _attempts
    cdef set _awaited
    cdef object _candidates
    cdef bytes _client
    cdef Timer _deadline
    cdef Dialer _dialer
    cdef object _done
    cdef set _failures
    cdef str _host
    cdef object _judge
    cdef dict _judged
    cdef double _next_at
    cdef Timer _next_timer
    cdef bint _over
    cdef bytes _own
    cdef int _port
    cdef Timer _resolution
    cdef bint _starting
    cdef int _tried

    cpdef object cancel(self)
    cpdef object abandon(self)
    cpdef object begin(self)
    cdef object _route_to(self, bytes address, str host, tuple aliases)
    cdef object _drop_candidates(self)
    cdef object _stop_waiting(self)
    @cython.locals(context=Context)
    cdef object _advance(self)
    @cython.locals(context=Context, kernel=Kernel, fd=int, attempt=Dialled)
    cdef object _attempt(self, object route)
    cdef object _failed_at_once(self, object failure, object route)
    @cython.locals(context=Context, code=int)
    cpdef object settled(self, Dialled attempt, bint failed)
    @cython.locals(context=Context, attempt=Dialled)
    cdef object _end(self, object done)


cdef class Dialer:
    cdef public Context context
    cdef public object resolver
    cdef public object routes
    cdef public double timeout
    cdef double _unrouted_until

    @cython.locals(dial=Dial)
    cpdef Dial dial(self, bytes client, bytes own, str host, int port, object done, object judge=*)
