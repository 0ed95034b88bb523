cimport cython

from appliance.session.asked cimport AskedNames


cdef class Judge:
    cdef Arbiter _arbiter
    cdef object _request
    cdef public object verdict


cdef class Arbiter:
    cdef public bint asks
    cdef public bint asks_names
    cdef public bint knows_devices
    cdef public bint judges_devices
    cdef public object lists
    cdef public AskedNames names
    cdef public dict rule_hits
    cdef public dict list_hits
    cdef public frozenset naming
    cdef dict _lists_of
    cdef object _devices
    cdef object _config
    cdef object _policy
    cdef object _forbidden
    cdef object _clock
    cdef object _moment
    cdef dict _verdicts

    cpdef object hit(self, str rule, str name)
    @cython.locals(names=AskedNames, now=double)
    cpdef str name_of(self, bytes client, bytes server, bytes origin)
    cpdef object packet(self, str kind, bytes client, bytes origin, int port, str name)
