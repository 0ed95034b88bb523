cimport cython

from appliance.proxy.kernel cimport Kernel
from appliance.proxy.loop cimport Handler, Loop

cdef unsigned int _OUT, _ERR, _BROKEN, _READABLE, _MORE_BEHIND
cdef Py_ssize_t _WOULD_BLOCK, _MOST_UNSENT
cdef int _READS


cdef class Owner:
    cpdef object on_data(self, Stream stream, bytes data)
    cpdef object on_end(self, Stream stream)
    cpdef object on_broken(self, Stream stream, str why)
    cpdef object on_unwritable(self, Stream stream)
    cpdef object on_drained(self, Stream stream)
    cpdef object on_finished(self, Stream stream)
    cpdef object on_secured(self, Stream stream)


cdef class Stream(Handler):
    cdef public Loop loop
    cdef public Kernel kernel
    cdef public int fd
    cdef public Owner owner
    cdef public bytes unsent
    cdef public bint paused
    cdef public bint ended
    cdef public bint finishing
    cdef public bint closed
    cdef public Tls tls
    cdef bint _behind

    cpdef object on_event(self, unsigned int events)
    @cython.locals(code=int)
    cdef object _on_event(self, unsigned int events)
    @cython.locals(kernel=Kernel, size=Py_ssize_t, data=bytes, _=int, tls=Tls, owner=Owner)
    cpdef object read(self)
    @cython.locals(tls=Tls)
    cpdef object resume(self)
    @cython.locals(owner=Owner)
    cpdef object _end(self)
    @cython.locals(owner=Owner)
    cpdef object broken(self, str why)
    cpdef object write(self, bytes data)
    @cython.locals(sent=Py_ssize_t, owner=Owner)
    cpdef object send(self, bytes data)
    @cython.locals(sent=Py_ssize_t, owner=Owner)
    cpdef object flush(self)
    cpdef object finish(self)
    @cython.locals(owner=Owner)
    cdef object _half_close(self)
    cpdef int detach(self) except -1
    cpdef object close(self)
    cpdef object abort(self)


cdef class Tls:
    cdef object _engine
    cdef object _in
    cdef object _out
    cdef Py_ssize_t _taken
    cdef public bint done
    cdef public bint finished

    cpdef object received(self, Stream stream, bytes data)
    @cython.locals(owner=Owner)
    cdef bint _shake_hands(self, Stream stream) except -1
    @cython.locals(data=bytes, owner=Owner)
    cpdef object drain(self, Stream stream)
    cdef object _over(self, Stream stream)
    cdef object _flush(self, Stream stream)
    cpdef bytes sealed(self, bytes data)
    cpdef bytes farewell(self)
