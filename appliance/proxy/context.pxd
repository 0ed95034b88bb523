cimport cython

from appliance.proxy.arbiter cimport Arbiter
from appliance.proxy.kernel cimport Kernel
from appliance.proxy.loop cimport Handler, Loop
from appliance.proxy.tally cimport Tally
from appliance.session.log cimport Log
from appliance.session.record cimport Session

cdef int _SESSIONS, _NEW, _SECOND


cdef class Counters:
    cdef public long long opened
    cdef public long long refused
    cdef public long long unreachable
    cdef public long long denied
    cdef public long long limited
    cdef public long long malformed
    cdef public long long to_wan
    cdef public long long to_lan
    cdef public list dial_ms
    cdef public dict limits


cdef class Way:
    cdef public object prefix
    cdef public tuple networks
    cdef public bytes interface
    cdef public tuple sources
    cdef public bytes place

    cpdef bytes source_for(self, bytes client)


cdef class Destination:
    cdef public str origin
    cdef public bytes packed
    cdef public Way way
    cdef public object failure


cdef class Context(Loop):
    cdef public object config
    cdef public tuple ways
    cdef public set published
    cdef public Tally tally
    cdef public int tun
    cdef public int raw
    cdef public Arbiter arbiter
    cdef public object quotas
    cdef public dict streams
    cdef public set unsent
    cdef public Counters counters
    cdef public object timers
    cdef public Log recorder
    cdef public dict sessions
    cdef public dict by_client
    cdef public long descriptor_limit
    cdef public long max_sessions
    cdef public long max_sessions_per_client
    cdef public long max_new
    cdef public long max_new_per_client
    cdef public int _put_off
    cdef long long _numbers
    cdef dict _destinations
    cdef int _errors_left
    cdef int _spare
    cdef object _ballast
    cdef Py_ssize_t _memory_for
    cdef dict _own
    cdef dict _new_sessions
    cdef long _new_in_all
    cdef long _second
    cdef public long descriptors
    cdef set _limited
    cdef dict _limits_seen
    cdef dict _limit_hit

    cpdef object write(self, bytes packet)
    cpdef Destination destination(self, bytes server)
    cpdef bint is_own(self, str origin) except -1
    @cython.locals(tried=long, others=cython.longlong, open_here=long, tally=Tally)
    cpdef object admit(self, bytes client, str user=*)
    cpdef Session open(self, str kind, bytes endpoints, str origin, str state, object started=*)
    @cython.locals(client=bytes, left=long)
    cpdef bint drop(self, Session session) except -1
    cpdef object ended(self, Session session, str reason)
    cpdef object out_of_memory(self, Handler handler)
