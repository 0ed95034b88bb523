cimport cython

from appliance.proxy.kernel cimport Kernel


cdef class Loop

cdef class Handler:
    cpdef object on_event(self, unsigned int events)
    cpdef object abandon(self)


cdef class Timer(Handler):
    cdef public Loop loop
    cdef public object action

    cpdef object cancel(self)


cdef class Loop:
    cdef public Kernel kernel
    cdef public double now
    cdef list _handlers
    cdef list _graves
    cdef list _sockets
    cdef list _later
    cdef list _timers
    cdef long long _number
    cdef long _cancelled
    cdef public long faults

    cpdef object later(self, Handler handler)
    cpdef object watch(self, int fd, Handler handler, unsigned int events)
    cpdef object hand_to(self, int fd, Handler handler)
    cpdef object ignore(self, int fd)
    cpdef object bury(self, int fd, object sock=*)
    @cython.locals(timers=list, timer=Timer)
    cpdef int wait(self, double seconds)
    @cython.locals(kernel=Kernel, handlers=list, later=list, handler=Handler, reader=Handler, index=int)
    cpdef object dispatch(self, int count)
    cpdef object out_of_memory(self, Handler handler)
    cpdef object fault(self, Handler handler)
    cpdef Timer at(self, double seconds, object action)
    @cython.locals(timers=list, timer=Timer, now=double, last="long long")
    cdef object _call_due(self)
    cpdef object forget_one(self)
    @cython.locals(fd=int)
    cpdef object close_buried(self)
