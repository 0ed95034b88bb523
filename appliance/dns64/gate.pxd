# The types of gate.py, for Cython.
cimport cython


cdef class Gate:
    cdef object _policy
    cdef bint _asks_devices
    cdef object _lists
    cdef object _devices
    cdef object _denials
    cdef bint _knows_devices
    cdef dict _lists_of
    cdef object _wall
    cdef object _clock
    cdef long long _second
    cdef object _moment
    cdef dict _verdicts
    cdef Py_ssize_t _count
    cdef public long long denied

    @cython.locals(known=dict, verdict=str)
    cpdef str denies(self, bytes client, bytes tail, long long second)

    cdef object _turn(self, long long second)
    cdef object _forget(self)

    @cython.locals(end=Py_ssize_t)
    cdef str _judge(self, bytes client, bytes tail)
    cdef object _note(self, bytes client, str name, str rule, str device)


@cython.locals(at=Py_ssize_t, end=Py_ssize_t, length=int)
cdef Py_ssize_t _end_of_name(bytes tail) except -1
