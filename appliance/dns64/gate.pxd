# The types of gate.py, for Cython.
cimport cython

from appliance.dns64.cache cimport Entry


cdef class Gate:
    cdef object _policy
    cdef bint _asks_devices
    cdef object _lists
    cdef object _devices
    cdef object _denials
    cdef bint _knows_devices
    cdef dict _lists_of
    cdef frozenset _naming
    cdef str _aliases
    cdef object _wall
    cdef object _clock
    cdef long long _second
    cdef object _moment
    cdef dict _verdicts
    cdef Py_ssize_t _count
    cdef public long long denied

    @cython.locals(known=dict, verdict=str)
    cpdef str denies(self, bytes client, bytes tail, long long second)

    @cython.locals(aliases=tuple, known=dict, verdict=str)
    cpdef str cloaked(self, bytes client, Entry entry, long long second)

    cdef str _judge_aliases(self, bytes client, bytes tail, tuple aliases)
    cpdef object _decide(self, bytes client, str device, str name)
    cdef object _turn(self, long long second)
    cdef object _forget(self)

    @cython.locals(end=Py_ssize_t)
    cdef str _judge(self, bytes client, bytes tail)
    cdef object _note(self, bytes client, str name, str rule, str device, str denied)


@cython.locals(at=Py_ssize_t, end=Py_ssize_t, length=int)
cdef Py_ssize_t _end_of_name(bytes tail) except -1
