# The types of told.py, for Cython.
cimport cython

from appliance.dns64.cache cimport Entry


cdef class _Client:
    cdef dict seconds
    cdef dict holders


cdef class Told:
    cdef object _store
    cdef long long _grace
    cdef dict _clients
    cdef Py_ssize_t _count

    @cython.locals(known=_Client)
    cpdef object tell(self, bytes client, Entry entry, long long now)

    @cython.locals(addresses=tuple, mark=object, holders=dict, address=bytes, name=bytes)
    cdef object _note(self, bytes client, _Client known, Entry entry, long long now)

    cpdef object forget(self)


cpdef str name_in(bytes tail)

@cython.locals(at=Py_ssize_t)
cpdef int type_in(bytes tail)

@cython.locals(found=list, count=int, at=Py_ssize_t, end=Py_ssize_t, data=Py_ssize_t, rtype=int)
cpdef tuple addresses_in(bytes tail)

@cython.locals(found=list, count=int, at=Py_ssize_t, end=Py_ssize_t, data=Py_ssize_t, wire=bytes)
cpdef tuple aliases_in(bytes tail)

@cython.locals(end=Py_ssize_t, length=int)
cdef Py_ssize_t _skip_name(bytes tail, Py_ssize_t at)
