"""The system calls of the data path, by the C library. kernel.py is the reference: the same calls in
Python's own, with what each one does written on it."""

import errno

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport calloc, free

cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <fcntl.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <string.h>
    #include <sys/epoll.h>
    #include <sys/socket.h>
    #include <time.h>
    #include <unistd.h>

    #ifndef IP_BIND_ADDRESS_NO_PORT
    #define IP_BIND_ADDRESS_NO_PORT 24
    #endif
    #ifndef IPV6_TRANSPARENT
    #define IPV6_TRANSPARENT 75
    #endif
    #ifndef IPV6_FREEBIND
    #define IPV6_FREEBIND 78
    #endif

    #define SPLICE_FLAGS (SPLICE_F_MOVE | SPLICE_F_NONBLOCK)

    /* A call that a signal interrupted is made anew; an error is the negated errno. */
    #define AGAIN(result, call) do { result = (call); } while (result < 0 && errno == EINTR); \\
        if (result < 0) result = -errno

    static ssize_t k_recv(int fd, void *buffer, size_t size)
    { ssize_t got; AGAIN(got, recv(fd, buffer, size, 0)); return got; }
    static ssize_t k_send(int fd, const void *data, size_t size)
    { ssize_t sent; AGAIN(sent, send(fd, data, size, MSG_NOSIGNAL)); return sent; }
    static ssize_t k_splice(int from, int to, size_t size)
    { ssize_t moved; AGAIN(moved, splice(from, NULL, to, NULL, size, SPLICE_FLAGS)); return moved; }
    static ssize_t k_read(int fd, void *buffer, size_t size)
    { ssize_t got; AGAIN(got, read(fd, buffer, size)); return got; }
    static ssize_t k_write(int fd, const void *data, size_t size)
    { ssize_t sent; AGAIN(sent, write(fd, data, size)); return sent; }

    static int k_pipe(int *ends, int size)
    {
        if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0)
            return -errno;
        fcntl(ends[1], F_SETPIPE_SZ, size); /* or the default size, where it is over the user's share */
        return 0;
    }

    static void k_reset_on_close(int fd)
    { struct linger none = {1, 0}; setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none); }

    static int k_error(int fd)
    {
        int code = 0;
        socklen_t size = sizeof code;
        return getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) < 0 ? errno : code;
    }

    static int k_watch(int epoll, int fd, unsigned events)
    {
        struct epoll_event event = {.events = events, .data.fd = fd};
        return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
    }

    static double k_now(void)
    { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }

    /* One end: the address into 16 octets, IPv4 as its mapped form, and the port. */
    static void k_end(const struct sockaddr_storage *name, unsigned char *address, unsigned char *port)
    {
        if (name->ss_family == AF_INET6) {
            const struct sockaddr_in6 *six = (const void *)name;
            memcpy(address, &six->sin6_addr, 16);
            memcpy(port, &six->sin6_port, 2);
        } else {
            const struct sockaddr_in *four = (const void *)name;
            memset(address, 0, 10);
            memset(address + 10, 0xFF, 2);
            memcpy(address + 12, &four->sin_addr, 4);
            memcpy(port, &four->sin_port, 2);
        }
    }

    static int k_accept(int listener, unsigned char *endpoints)
    {
        struct sockaddr_storage peer, own;
        socklen_t size = sizeof peer;
        int fd;
        AGAIN(fd, accept4(listener, (void *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (fd < 0)
            return fd;
        size = sizeof own;
        if (getsockname(fd, (void *)&own, &size) < 0) {
            int code = errno;
            close(fd);
            return -code;
        }
        k_end(&peer, endpoints, endpoints + 32);
        k_end(&own, endpoints + 16, endpoints + 34);
        return fd;
    }

    static socklen_t k_name(struct sockaddr_storage *name, const char *address, size_t size, unsigned port)
    {
        memset(name, 0, sizeof *name);
        if (size == 4) {
            struct sockaddr_in *four = (void *)name;
            four->sin_family = AF_INET;
            four->sin_port = htons(port);
            memcpy(&four->sin_addr, address, 4);
            return sizeof *four;
        }
        struct sockaddr_in6 *six = (void *)name;
        six->sin6_family = AF_INET6;
        six->sin6_port = htons(port);
        memcpy(&six->sin6_addr, address, 16);
        return sizeof *six;
    }

    static int k_dial(const char *address, size_t size, unsigned port, const char *device, size_t device_size,
                      const char *source, size_t source_size)
    {
        struct sockaddr_storage name;
        int one = 1, code, fd = socket(size == 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
            return -errno;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one);
        if (device_size && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, device_size) < 0)
            goto failed;
        if (source_size) {
            setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
            if (size != 4 && (setsockopt(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, &one, sizeof one) < 0 ||
                              setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &one, sizeof one) < 0))
                goto failed;
            if (bind(fd, (void *)&name, k_name(&name, source, source_size, 0)) < 0)
                goto failed;
        }
        /* Interrupted, a non-blocking connect goes on by itself. */
        if (connect(fd, (void *)&name, k_name(&name, address, size, port)) == 0 || errno == EINPROGRESS ||
            errno == EINTR)
            return fd;
    failed:
        code = errno;
        close(fd);
        return -code;
    }
    """
    ctypedef struct epoll_event:
        unsigned int events
    ctypedef struct Event "struct epoll_event":
        unsigned int events
    int EPOLL_CTL_DEL, EPOLL_CLOEXEC, SHUT_WR, c_errno "errno"
    ssize_t k_recv(int, void*, size_t)
    ssize_t k_send(int, const void*, size_t)
    ssize_t k_splice(int, int, size_t)
    ssize_t k_read(int, void*, size_t)
    ssize_t k_write(int, const void*, size_t)
    int k_pipe(int*, int)
    void k_reset_on_close(int)
    int k_error(int)
    int k_watch(int, int, unsigned int)
    double k_now()
    int k_accept(int, unsigned char*)
    int k_dial(const char*, size_t, unsigned int, const char*, size_t, const char*, size_t)
    int epoll_create1(int)
    int epoll_ctl(int, int, int, Event*)
    int epoll_wait(int, Event*, int, int)
    int c_close "close"(int)
    int c_shutdown "shutdown"(int, int)
    int event_descriptor "k_event_fd"(Event*)

cdef extern from * nogil:
    """
    static int k_event_fd(struct epoll_event *event) { return event->data.fd; }
    """

DEF MAX_EVENTS_C = 512
DEF MAX_PACKET_C = 65536
MAX_EVENTS = MAX_EVENTS_C
MAX_PACKET = MAX_PACKET_C

cdef char packet_room[MAX_PACKET_C]


cdef class Kernel:

    def __cinit__(self):
        self._epoll = -1
        self._events = calloc(MAX_EVENTS_C, sizeof(Event))

    def __init__(self, Py_ssize_t read_size):
        self.buffer = bytearray(read_size)
        self.endpoints = b""
        self.pipe_ends = (-1, -1)
        self.now = k_now()
        if self._events == NULL:
            raise MemoryError
        self._epoll = epoll_create1(EPOLL_CLOEXEC)
        if self._epoll < 0:
            raise OSError(c_errno, "no epoll")

    def __dealloc__(self):
        if self._epoll >= 0:
            c_close(self._epoll)
        free(self._events)

    cpdef int watch(self, int fd, unsigned int events):
        return k_watch(self._epoll, fd, events)

    cpdef int ignore(self, int fd):
        return -c_errno if epoll_ctl(self._epoll, EPOLL_CTL_DEL, fd, NULL) < 0 else 0

    cpdef int wait(self, double seconds):
        # Rounded up: to wake a moment too early would be to wake twice.
        cdef int count = epoll_wait(
            self._epoll, <Event*> self._events, MAX_EVENTS_C, <int> (seconds * 1000 + 0.999) if seconds > 0 else 0
        )
        self.now = k_now()
        return max(count, 0)  # interrupted by a signal: as if nothing had happened

    cpdef double clock(self):
        return k_now()

    cpdef int event_fd(self, int index):
        return event_descriptor(&(<Event*> self._events)[index])

    cpdef unsigned int event_mask(self, int index):
        return (<Event*> self._events)[index].events

    cpdef object adopt(self, int fd):
        return None

    cpdef Py_ssize_t receive(self, int fd):
        return k_recv(fd, PyByteArray_AS_STRING(self.buffer), PyByteArray_GET_SIZE(self.buffer))

    cpdef bytes received(self, Py_ssize_t start, Py_ssize_t end):
        if not 0 <= start <= end <= PyByteArray_GET_SIZE(self.buffer):
            raise IndexError("outside the buffer")
        return PyBytes_FromStringAndSize(PyByteArray_AS_STRING(self.buffer) + start, end - start)

    cpdef Py_ssize_t forward(self, int fd, Py_ssize_t size):
        if not 0 <= size <= PyByteArray_GET_SIZE(self.buffer):
            return -errno.EINVAL
        return k_send(fd, PyByteArray_AS_STRING(self.buffer), size)

    cpdef Py_ssize_t send(self, int fd, bytes data):
        return k_send(fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    cpdef Py_ssize_t splice(self, int source, int target, Py_ssize_t size):
        return k_splice(source, target, size)

    cpdef int open_pipe(self, int size):
        cdef int[2] ends
        cdef int code = k_pipe(ends, size)
        if code == 0:
            self.pipe_ends = (ends[0], ends[1])
        return code

    cpdef int half_close(self, int fd):
        return -c_errno if c_shutdown(fd, SHUT_WR) < 0 else 0

    cpdef object reset_on_close(self, int fd):
        k_reset_on_close(fd)

    cpdef object close(self, int fd):
        c_close(fd)

    cpdef int error_of(self, int fd):
        return k_error(fd)

    cpdef int accept(self, int listener):
        cdef unsigned char[36] endpoints
        cdef int fd = k_accept(listener, endpoints)
        if fd >= 0:
            self.endpoints = PyBytes_FromStringAndSize(<char*> endpoints, 36)
        return fd

    cpdef int dial(self, bytes address, unsigned int port, bytes device, bytes source):
        if len(address) not in (4, 16) or len(source) not in (0, len(address)):
            return -errno.EINVAL
        return k_dial(
            PyBytes_AS_STRING(address), len(address), port, PyBytes_AS_STRING(device), len(device),
            PyBytes_AS_STRING(source), len(source),
        )

    cpdef object read_packet(self, int tun):
        cdef Py_ssize_t size = k_read(tun, packet_room, MAX_PACKET_C)
        return size if size < 0 else PyBytes_FromStringAndSize(packet_room, size)

    cpdef Py_ssize_t write_packet(self, int tun, bytes packet):
        return k_write(tun, PyBytes_AS_STRING(packet), PyBytes_GET_SIZE(packet))
