# What both implementations of the system calls have. kernel.py says what each call does.

cdef class Kernel:
    cdef public bytearray buffer
    cdef public bytes endpoints
    cdef public tuple pipe_ends
    cdef public double now
    cdef int _epoll
    cdef void* _events

    cpdef int watch(self, int fd, unsigned int events)
    cpdef int ignore(self, int fd)
    cpdef int wait(self, double seconds)
    cpdef double clock(self)
    cpdef int event_fd(self, int index)
    cpdef unsigned int event_mask(self, int index)
    cpdef object adopt(self, int fd)
    cpdef Py_ssize_t receive(self, int fd)
    cpdef bytes received(self, Py_ssize_t start, Py_ssize_t end)
    cpdef Py_ssize_t forward(self, int fd, Py_ssize_t size)
    cpdef Py_ssize_t send(self, int fd, bytes data)
    cpdef Py_ssize_t splice(self, int source, int target, Py_ssize_t size)
    cpdef int open_pipe(self, int size)
    cpdef int half_close(self, int fd)
    cpdef object reset_on_close(self, int fd)
    cpdef object close(self, int fd)
    cpdef int error_of(self, int fd)
    cpdef int accept(self, int listener)
    cpdef int dial(self, bytes address, unsigned int port, bytes device, bytes source)
    cpdef object read_packet(self, int tun)
    cpdef Py_ssize_t write_packet(self, int tun, bytes packet)
