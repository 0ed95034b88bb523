cimport cython

from appliance.proxy.kernel cimport Kernel


cdef class Handler:
    cpdef object on_event(self, unsigned int events)
    cpdef object abandon(self)


cdef class Loop:
    cdef public Kernel kernel
    cdef public double now
    cdef list _handlers
    cdef list _graves
    cdef list _sockets
    cdef list _later

    cpdef object later(self, Handler handler)
    cpdef object watch(self, int fd, Handler handler, unsigned int events)
    cpdef object hand_to(self, int fd, Handler handler)
    cpdef object ignore(self, int fd)
    cpdef object bury(self, int fd, object sock=*)
    cpdef int wait(self, double seconds)
    @cython.locals(kernel=Kernel, handlers=list, later=list, handler=Handler, reader=Handler, index=int)
    cpdef object dispatch(self, int count)
    cpdef object out_of_memory(self, Handler handler)
    @cython.locals(fd=int)
    cpdef object close_buried(self)
