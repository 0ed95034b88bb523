cimport cython

from appliance.proxy.context cimport Context, Counters, Destination, Way
from appliance.proxy.kernel cimport Kernel
from appliance.proxy.loop cimport Handler
from appliance.proxy.relay cimport Leg, Registry, RelayContext, join
from appliance.proxy.tally cimport Tally
from appliance.session.record cimport Session

cdef int _NONE, _HALF_OPEN, _MAX_SYN
cdef unsigned int _OUT, _FAILED, _LEG_EVENTS


cdef class Held(Handler):
    cdef public Transparent owner
    cdef public bytes key
    cdef public bytes syn
    cdef public int client
    cdef public int fd
    cdef public Session session
    cdef public double deadline
    cdef public bint released
    cdef public unsigned int events

    cpdef object on_event(self, unsigned int events)
    cpdef object abandon(self)


cdef class _Sessions(Registry):
    cdef public Context context
    cdef public set four_tuples

    cpdef object opened(self, Session session)
    cpdef object ended(self, Session session, str reason)


cdef class Transparent(Handler):
    cdef Context _context
    cdef Kernel _kernel
    cdef RelayContext _relay
    cdef int _listener
    cdef int _dial_timeout
    cdef long _max_half_open
    cdef long _max_half_open_per_client
    cdef public dict dialling
    cdef public dict released
    cdef public set relayed
    cdef dict _half_open

    # A slice of C's octets is made at once; one of a bytes object goes by three more objects. Keys have 36.
    @cython.locals(context=Context, key=bytes, target=Destination, octets="const unsigned char*", address=bytes,
                   server=bytes)
    cpdef object on_syn(self, bytes packet)
    @cython.locals(waiting=long, tally=Tally)
    cdef object _admit(self, bytes client)
    @cython.locals(context=Context, octets="const unsigned char*", port=int, fd=int, session=Session,
                   held=Held, way=Way)
    cdef object _dial(self, bytes key, bytes address, bytes syn, Destination target, int client, object verdict, str name)
    cdef object _judge(self, bytes key, bytes address, Destination target, str name)
    @cython.locals(client=bytes)
    cdef object _hold(self, Held held)
    cdef object _refuse(self, bytes syn, Destination target, object failure, str name, object verdict=*)
    @cython.locals(code=int, context=Context, samples=list)
    cpdef object _undo(self, bytes key, int fd, Session session)
    cpdef object give_up(self, Held held, object failure)
    cpdef object dialled(self, Held held, bint failed)
    @cython.locals(now=double, held=Held, waiting=dict)
    cpdef object every_second(self)
    @cython.locals(context=Context)
    cdef object _drop(self, Held held, object failure)
    @cython.locals(client=bytes, left=long)
    cdef object _forget(self, Held held)
    @cython.locals(kernel=Kernel, fd=int, _=int, key=bytes, held=Held)
    cpdef object on_event(self, unsigned int events)
    @cython.locals(target=Destination, context=Context, octets="const unsigned char*", address=bytes, server=bytes)
    cpdef object _accepted_first(self, bytes key, int fd)
    @cython.locals(context=Context, kernel=Kernel, fd=int, held=Held)
    cdef bint _shed(self) except -1
    @cython.locals(context=Context, session=Session, client=Leg, origin=Leg, target=Destination)
    cdef object _pair(self, Held held, int fd)
