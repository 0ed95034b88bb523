# The types of misses.py, for Cython.
cimport cython

from appliance.dns64.cache cimport Answer, Cache, Entry
from appliance.dns64.gate cimport Gate
from appliance.dns64.told cimport Told

@cython.final
@cython.freelist(256)
cdef class Miss:
    cdef public bytes packet
    cdef public bytes question
    cdef public bytes empty
    cdef public object address
    cdef public object client
    cdef public list outbox
    cdef public double started
    cdef public long rules
    cdef public long cap

cdef class Misses:
    cdef public list questions
    cdef public list odd
    cdef public long mismatched
    cdef object _client_of
    cdef dict _pending
    cdef set _asked
    cdef dict _of_client
    cdef bytes _ids
    cdef Py_ssize_t _drawn
    cdef Cache _cache
    cdef Told _told
    cdef Gate _gate
    cdef long _rules
    cdef object _embed
    cdef object _special

    @cython.locals(packet=bytes, key=bytes, cache=Cache, entry=Entry, told=Told, gate=Gate, second=long)
    cpdef list take(self, list packets, list outbox, double now)

    @cython.locals(size=Py_ssize_t, offset=Py_ssize_t, limit=Py_ssize_t, end=Py_ssize_t, length=int,
                   head=bytes, count=long, miss=Miss)
    cdef bint _begin(self, bytes packet, bytes key, object address, list outbox, double now) except -1

    @cython.locals(number=long)
    cdef object _ask(self, Miss miss, bytes tail, double now)

    @cython.locals(at=Py_ssize_t)
    cdef long _draw(self) except -1

    @cython.locals(packet=bytes, number=long, miss=Miss, end=Py_ssize_t, plain=bint, same=bint)
    cpdef answered(self, list packets, double now)

    @cython.locals(offset=Py_ssize_t, behind=Py_ssize_t, ttl=cython.ulong, least=cython.ulong)
    cdef bint _is_empty(self, Miss miss, bytes packet, Py_ssize_t end) except -1

    @cython.locals(count=long, offset=Py_ssize_t, lowest=long, size=Py_ssize_t, parts=list, fields=list,
                   octets=bytes, made=bytes, ttl=long, opt=bytes, head=bytes, tail=bytes, answer=bytes,
                   key=bytes, entry=Entry, with_opt=int)
    cdef bint _finish(self, Miss miss, bytes packet, Py_ssize_t end, long second) except -1

    cdef object _give_back(self, Miss miss, bytes packet)
    @cython.locals(left=long)
    cdef object _leave(self, Miss miss, bytes key)

@cython.locals(end=Py_ssize_t, length=int)
cdef Py_ssize_t _skip_owner(bytes packet, Py_ssize_t offset) except -1

@cython.locals(at=Py_ssize_t, behind=Py_ssize_t)
cdef Py_ssize_t _skip_record(bytes packet, Py_ssize_t offset) except -1

@cython.locals(options=bytes, found=bint, behind=Py_ssize_t)
cdef bytes _additional(bytes packet, Py_ssize_t offset, long count)
