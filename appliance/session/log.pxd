from appliance.session.record cimport Session


cdef class Log:
    cdef object _path
    cdef int _worker
    cdef list _lines
    cdef Py_ssize_t _size
    cdef int _fd
    cdef double _epoch
    cdef bint _writes
    cdef bint _destinations
    cdef bint _torn
    cdef public long long dropped

    cpdef object ended(self, Session session, str reason, double now)
    cdef object _add(self, str line)
