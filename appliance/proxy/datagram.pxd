# C types for datagram.py.
cimport cython

from appliance.proxy.batch cimport Batch
from appliance.proxy.context cimport Context, Destination, Way
from appliance.proxy.loop cimport Handler
from appliance.session.record cimport Session

cdef int _TRACEROUTE_HOPS, _DEFAULT_TTL, _MAX_TO_ORIGIN, _MAX_SMALL
cdef double _SOURCE_LIFETIME


cdef class Flow:
    cdef public Session session
    cdef public Binding binding
    cdef public bytes key
    cdef public bytes address
    cdef public bytes ends
    cdef public Way way
    cdef public object unnamed
    cdef public double fresh
    cdef public double last

    cpdef long idle(self, long second) except -1


cdef class Binding:
    cdef public Datagrams owner
    cdef public bytes place
    cdef public Flow first
    cdef public dict others
    cdef public int count
    cdef public int port
    cdef public int exit

    cpdef Flow flow_of(self, bytes address)
    cpdef object enter(self, Flow flow)
    cpdef bint leave(self, Flow flow) except -1


cdef class FromOrigins(Handler):
    cdef Datagrams _owner

    cpdef object on_event(self, unsigned int events)


cdef class Datagrams(Handler):
    cdef Context _context
    cdef int _from_clients
    cdef int _from_origins
    cdef Batch _asked
    cdef Batch _answered
    cdef object _exits
    cdef object _to_clients
    cdef int _out
    cdef object _own
    cdef object _errors
    cdef dict _flows
    cdef dict _bindings
    cdef dict _by_port
    cdef object _ports
    cdef long _lifetime
    cdef bytes _random
    cdef int _drawn
    cdef unsigned int _identification
    cdef public object paths

    @cython.locals(batch=Batch, flows=dict, now=double, leave_by=int, count=int, number=int, hops=int, size=int,
                   key=bytes, flow=Flow, binding=Binding)
    cpdef object on_event(self, unsigned int events)
    @cython.locals(batch=Batch)
    cdef object _forward(self, int leave_by)
    @cython.locals(context=Context)
    cdef Flow _open(self, bytes key, bytes payload, int hops)
    @cython.locals(flow=Flow, size=int)
    cpdef object _again(self, bytes key, bytes payload, int hops)
    cdef object _send_alone(self, Flow flow, bytes payload, int hops)
    @cython.locals(context=Context, leave_by=int, port=int, place=bytes, binding=Binding, session=Session,
                   flow=Flow)
    cdef tuple _try_open(self, bytes key, Destination target, str name)
    cdef bint _learn_name(self, Flow flow, bytes payload, int hops) except -1
    cdef Binding _bind(self, bytes place, int port, int leave_by)
    cdef object _enter(self, Flow flow)
    @cython.locals(now=double, source=bytes, port=int)
    cdef bint _refresh(self, Flow flow) except -1
    cdef int _draw(self) except -1
    @cython.locals(taken=dict, port=int, _=int)
    cdef int _draw_port(self) except -1
    @cython.locals(batch=Batch, by_port=dict, now=double, count=int, number=int, size=int, flow=Flow,
                   binding=Binding)
    cpdef object answers(self)
    @cython.locals(binding=Binding)
    cdef object _end(self, Flow flow, str reason)
    @cython.locals(left=long)
    cpdef long idle(self, Flow flow, long second) except -1
