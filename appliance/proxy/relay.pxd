cimport cython

from appliance.proxy.kernel cimport Kernel
from appliance.proxy.loop cimport Handler, Loop
from appliance.session.record cimport Session

cdef unsigned int _IN, _OUT, _ERR, _RDHUP, _MORE_BEHIND, _READABLE, _PLAIN
cdef Py_ssize_t _WOULD_BLOCK
cdef int _SPLICE_AFTER


cdef class Pipes:
    cdef public Kernel kernel
    cdef public int limit
    cdef public int size
    cdef public int max_spare
    cdef public int made
    cdef public list spare

    cpdef object take(self)
    cpdef object give(self, tuple pipe, bint empty)


cdef class Registry:
    cpdef object opened(self, Session session)
    cpdef object ended(self, Session session, str reason)


cdef class RelayContext:
    cdef public Loop loop
    cdef public Kernel kernel
    cdef public Pipes pipes
    cdef public Registry registry
    cdef public Py_ssize_t read_size
    cdef public int max_turn
    cdef public list again
    cdef public dict legs

    @cython.locals(count=int)
    cpdef object turn(self, double seconds)
    @cython.locals(leg=Leg, again=list)
    cpdef object resume(self)


cdef class Leg(Handler):
    cdef public RelayContext context
    cdef public int fd
    cdef public Session session
    cdef public bint lan
    cdef public Leg peer
    cdef public bytes pending
    cdef public int from_pipe
    cdef public int into_pipe
    cdef public Py_ssize_t in_pipe
    cdef public int full_reads
    cdef public bint eof
    cdef public bint shut
    cdef public bint closed

    @cython.locals(peer=Leg)
    cpdef object on_event(self, unsigned int events)
    @cython.locals(kernel=Kernel, size=Py_ssize_t, sent=Py_ssize_t)
    cdef object _copy_small(self, Leg peer)
    cdef object _read_nothing(self, Leg peer, Py_ssize_t size)
    @cython.locals(peer=Leg, sent=Py_ssize_t)
    cpdef object pump(self, unsigned int events)
    cdef object _count(self, Py_ssize_t amount)
    @cython.locals(context=RelayContext, kernel=Kernel, size=Py_ssize_t, sent=Py_ssize_t, _=int)
    cdef object _copy(self, Leg peer, unsigned int events)
    @cython.locals(context=RelayContext, kernel=Kernel, moved=Py_ssize_t, size=Py_ssize_t, _=int)
    cdef object _splice(self, Leg peer, unsigned int events)
    cdef bint _take_pipe(self) except -1
    cdef object _release_pipe(self)
    cdef object _finish(self, Leg peer)
    @cython.locals(kernel=Kernel)
    cpdef object abandon(self)
    cpdef object abort(self, str reason)
    @cython.locals(context=RelayContext, peer=Leg)
    cdef object _close(self, str reason)
    cdef object _end(self)


@cython.locals(lan_leg=Leg, wan_leg=Leg)
cpdef tuple join(RelayContext context, int lan, int wan, Session session)


@cython.locals(lan_leg=Leg, wan_leg=Leg)
cpdef object relay_on(RelayContext context, int lan, int wan, Session session, bytes to_wan=*, bytes to_lan=*)
