# The C implementation of Batch (batch.pyx), for the compiled modules that use it.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t

cdef extern from "netinet/in.h" nogil:
    struct in_addr:
        pass
    struct in6_addr:
        pass
    struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        in6_addr sin6_addr

cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "sys/socket.h" nogil:
    struct msghdr:
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len

cdef struct Slot:
    sockaddr_in6 peer       # or a sockaddr_in
    sockaddr_in6 target     # likewise
    iovec parts[2]          # to receive into
    iovec pieces[2]         # to send
    uint8_t own[16]
    uint16_t port           # own, in network order
    int hops
    size_t size
    uint8_t control[128]
    # The headers of the packet that it becomes stand right before its content.
    uint8_t headers[48]
    uint8_t head[2048 + 8]

cdef class Batch:
    cdef int _family
    cdef Slot *_slots
    cdef uint8_t *_tails
    cdef mmsghdr *_incoming
    cdef mmsghdr *_outgoing
    cdef int *_numbers      # of the datagrams in `_outgoing`
    cdef int _used
    cdef int _queued
    cdef list _failures

    cdef void _ready(self, int number) noexcept
    cdef void _queue(self, int number, size_t headers) noexcept
    cpdef int receive(self, int fd) noexcept
    cpdef bytes ends(self, int number)
    cpdef bytes peer(self, int number)
    cpdef int own_port(self, int number) noexcept
    cpdef int hop_limit(self, int number) noexcept
    cpdef int size(self, int number) noexcept
    cpdef bytes payload(self, int number)
    cpdef to_origin(self, int number, bytes ends, int ttl)
    cpdef to_client(self, int number, bytes key)
    cpdef int flush(self, int fd) except -1
    cpdef list failures(self)
