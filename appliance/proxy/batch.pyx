# cython: boundscheck=False, wraparound=False
"""Datagrams by the batch, by the C library. batch.py is the reference: the same in Python's own, with what
each method does written on it."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

cdef extern from "netinet/in.h" nogil:
    enum:
        IPPROTO_IP
        IPPROTO_IPV6
        IPV6_HOPLIMIT
    uint16_t htons(uint16_t)
    uint16_t ntohs(uint16_t)

cdef extern from "sys/socket.h" nogil:
    enum:
        AF_INET
        AF_INET6
        MSG_DONTWAIT
    struct sockaddr:
        pass
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    cmsghdr *CMSG_FIRSTHDR(msghdr *)
    cmsghdr *CMSG_NXTHDR(msghdr *, cmsghdr *)
    uint8_t *CMSG_DATA(cmsghdr *)
    size_t CMSG_LEN(size_t)
    ssize_t sendto(int, const void *, size_t, int, const sockaddr *, unsigned int)
    int recvmmsg(int, mmsghdr *, unsigned int, int, void *)
    int sendmmsg(int, mmsghdr *, unsigned int, int)

cdef enum:
    _BATCH = 8
    _MAX_DATAGRAM = 65536
    # The beginning of each datagram of a batch lies in one piece of memory that the caches hold; what is
    # longer goes on in pages of its own, which the kernel gives when they are first written to.
    _HEAD = 2048
    _TAIL = _MAX_DATAGRAM - _HEAD + 8
    _CONTROL = 128
    _UDP = 17
    _UDP_HEADER = 8
    _IPV6_HEADER = 40
    _IPV4_HEADER = 20
    _HOP_LIMIT = 64
    _ORIGDSTADDR_V4 = 20
    _ORIGDSTADDR_V6 = 74

BATCH = _BATCH
MAX_DATAGRAM = _MAX_DATAGRAM
MAX_TO_ORIGIN = 65535 - _IPV4_HEADER - _UDP_HEADER


cdef uint64_t ones_sum(const void *data, size_t size) noexcept nogil:
    """Of `size` octets, rounded up to four: congruent to their ones' complement sum, in memory's order."""
    cdef const uint8_t *octets = <const uint8_t *>data
    cdef uint64_t total = 0
    cdef uint32_t word
    cdef size_t place = 0
    while place < size:
        memcpy(&word, octets + place, 4)
        total += word
        place += 4
    return total


cdef uint16_t checksum(uint64_t total) noexcept nogil:
    """RFC 1071, and of UDP: zero is sent as its other form."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF if total == 0xFFFF else 0xFFFF - <uint16_t>total


cdef uint64_t content_sum(Slot *slot) noexcept nogil:
    cdef uint8_t *tail = <uint8_t *>slot.parts[1].iov_base
    if slot.size <= _HEAD:
        memset(slot.head + slot.size, 0, 4)
        return ones_sum(slot.head, slot.size)
    memset(tail + slot.size - _HEAD, 0, 4)
    return ones_sum(slot.head, _HEAD) + ones_sum(tail, slot.size - _HEAD)


cdef class Batch:
    def __cinit__(self, int family):
        cdef int number
        cdef Slot *slot
        self._family = family
        self._failures = []
        self._slots = <Slot *>calloc(_BATCH, sizeof(Slot))
        self._tails = <uint8_t *>malloc(<size_t>_BATCH * _TAIL)
        self._incoming = <mmsghdr *>calloc(_BATCH, sizeof(mmsghdr))
        self._outgoing = <mmsghdr *>calloc(_BATCH, sizeof(mmsghdr))
        self._numbers = <int *>calloc(_BATCH, sizeof(int))
        if not (self._slots and self._tails and self._incoming and self._outgoing and self._numbers):
            raise MemoryError
        for number in range(_BATCH):
            slot = &self._slots[number]
            slot.parts[0].iov_base = slot.head
            slot.parts[1].iov_base = self._tails + <size_t>number * _TAIL
            self._incoming[number].msg_hdr.msg_name = &slot.peer
            self._incoming[number].msg_hdr.msg_iov = slot.parts
            self._incoming[number].msg_hdr.msg_control = slot.control
            self._ready(number)

    def __dealloc__(self):
        free(self._slots)
        free(self._tails)
        free(self._incoming)
        free(self._outgoing)
        free(self._numbers)

    cdef void _ready(self, int number) noexcept:
        """Let a slot take the next datagram: recvmmsg() has written over its sizes."""
        self._slots[number].parts[0].iov_len = _HEAD
        self._slots[number].parts[1].iov_len = _MAX_DATAGRAM - _HEAD
        self._incoming[number].msg_hdr.msg_namelen = sizeof(sockaddr_in6)
        self._incoming[number].msg_hdr.msg_iovlen = 2
        self._incoming[number].msg_hdr.msg_controllen = _CONTROL

    cpdef int receive(self, int fd) noexcept:
        cdef int number, count
        cdef cmsghdr *control
        cdef uint8_t *value
        cdef msghdr *message
        cdef Slot *slot
        for number in range(self._used):
            self._ready(number)
        self._used = self._queued = 0
        count = recvmmsg(fd, self._incoming, _BATCH, MSG_DONTWAIT, NULL)
        if count < 0:
            return -errno
        self._used = count
        for number in range(count):
            slot, message = &self._slots[number], &self._incoming[number].msg_hdr
            slot.port, slot.hops, slot.size = 0, 0, self._incoming[number].msg_len
            memset(slot.own, 0, 16)
            control = CMSG_FIRSTHDR(message)
            while control != NULL:
                value = CMSG_DATA(control)
                if control.cmsg_level == IPPROTO_IPV6:
                    if control.cmsg_type == _ORIGDSTADDR_V6 and control.cmsg_len >= CMSG_LEN(24):
                        memcpy(&slot.port, value + 2, 2)
                        memcpy(slot.own, value + 8, 16)
                    elif control.cmsg_type == IPV6_HOPLIMIT and control.cmsg_len >= CMSG_LEN(4):
                        memcpy(&slot.hops, value, 4)
                elif control.cmsg_level == IPPROTO_IP:
                    if control.cmsg_type == _ORIGDSTADDR_V4 and control.cmsg_len >= CMSG_LEN(8):
                        memcpy(&slot.port, value + 2, 2)
                        memcpy(slot.own, value + 4, 4)
                control = CMSG_NXTHDR(message, control)
        return count

    cpdef bytes ends(self, int number):
        cdef Slot *slot = &self._slots[number]
        cdef sockaddr_in *four = <sockaddr_in *>&slot.peer
        cdef size_t size = 16 if self._family == AF_INET6 else 4
        cdef bytes found = PyBytes_FromStringAndSize(NULL, 2 * size + 4)
        cdef char *place = PyBytes_AS_STRING(found)
        memcpy(place, <void *>&slot.peer.sin6_addr if size == 16 else <void *>&four.sin_addr, size)
        memcpy(place + size, slot.own, size)
        memcpy(place + 2 * size, &four.sin_port, 2)  # it stands in the same place in both
        memcpy(place + 2 * size + 2, &slot.port, 2)
        return found

    cpdef bytes peer(self, int number):
        cdef Slot *slot = &self._slots[number]
        cdef sockaddr_in *four = <sockaddr_in *>&slot.peer
        cdef size_t size = 16 if self._family == AF_INET6 else 4
        cdef bytes found = PyBytes_FromStringAndSize(NULL, size + 2)
        cdef char *place = PyBytes_AS_STRING(found)
        memcpy(place, <void *>&slot.peer.sin6_addr if size == 16 else <void *>&four.sin_addr, size)
        memcpy(place + size, &four.sin_port, 2)
        return found

    cpdef int own_port(self, int number) noexcept:
        return ntohs(self._slots[number].port)

    cpdef int hop_limit(self, int number) noexcept:
        return self._slots[number].hops

    cpdef int size(self, int number) noexcept:
        return <int>self._slots[number].size

    cpdef bytes payload(self, int number):
        cdef Slot *slot = &self._slots[number]
        if slot.size <= _HEAD:
            return PyBytes_FromStringAndSize(<char *>slot.head, slot.size)
        return (PyBytes_FromStringAndSize(<char *>slot.head, _HEAD)
                + PyBytes_FromStringAndSize(<char *>slot.parts[1].iov_base, slot.size - _HEAD))

    cpdef to_origin(self, int number, bytes ends, int ttl):
        cdef Slot *slot = &self._slots[number]
        cdef const char *place = PyBytes_AS_STRING(ends)
        cdef uint8_t *packet = slot.head - _UDP_HEADER - _IPV4_HEADER
        cdef sockaddr_in *target = <sockaddr_in *>&slot.target
        cdef uint16_t length = htons(<uint16_t>(_UDP_HEADER + slot.size))
        cdef uint16_t total = checksum(ones_sum(place, 12) + content_sum(slot) + 2 * <uint64_t>length + htons(_UDP))
        memset(packet, 0, 12)
        packet[0], packet[8], packet[9] = 0x45, <uint8_t>ttl, _UDP
        memcpy(packet + 12, place, 12)  # addresses and ports follow on each other
        memcpy(packet + 24, &length, 2)
        memcpy(packet + 26, &total, 2)
        target.sin_family, target.sin_port = AF_INET, 0
        memcpy(&target.sin_addr, place + 4, 4)
        self._outgoing[self._queued].msg_hdr.msg_namelen = sizeof(sockaddr_in)
        self._queue(number, _IPV4_HEADER + _UDP_HEADER)

    cpdef to_client(self, int number, bytes key):
        cdef Slot *slot = &self._slots[number]
        cdef const char *place = PyBytes_AS_STRING(key)
        cdef uint8_t *packet = slot.head - _UDP_HEADER - _IPV6_HEADER
        cdef uint16_t length = htons(<uint16_t>(_UDP_HEADER + slot.size))
        cdef uint16_t total = checksum(ones_sum(place, 36) + content_sum(slot) + 2 * <uint64_t>length + htons(_UDP))
        memset(packet, 0, 8)
        packet[0], packet[6], packet[7] = 0x60, _UDP, _HOP_LIMIT
        memcpy(packet + 4, &length, 2)
        memcpy(packet + 8, place + 16, 16)
        memcpy(packet + 24, place, 16)
        memcpy(packet + 40, place + 34, 2)
        memcpy(packet + 42, place + 32, 2)
        memcpy(packet + 44, &length, 2)
        memcpy(packet + 46, &total, 2)
        memset(&slot.target, 0, sizeof(slot.target))
        slot.target.sin6_family = AF_INET6
        memcpy(&slot.target.sin6_addr, place, 16)
        self._outgoing[self._queued].msg_hdr.msg_namelen = sizeof(sockaddr_in6)
        self._queue(number, _IPV6_HEADER + _UDP_HEADER)

    cdef void _queue(self, int number, size_t headers) noexcept:
        cdef Slot *slot = &self._slots[number]
        cdef msghdr *message = &self._outgoing[self._queued].msg_hdr
        cdef size_t in_head = slot.size if slot.size <= _HEAD else _HEAD
        slot.pieces[0].iov_base = slot.head - headers
        slot.pieces[0].iov_len = headers + in_head
        slot.pieces[1].iov_base = slot.parts[1].iov_base
        slot.pieces[1].iov_len = slot.size - in_head
        message.msg_name = &slot.target
        message.msg_iov = slot.pieces
        message.msg_iovlen = 1 if slot.size <= _HEAD else 2
        self._numbers[self._queued] = number
        self._queued += 1

    cpdef int flush(self, int fd) except -1:
        cdef int done = 0, sent
        if self._failures:
            self._failures = []
        while done < self._queued:
            sent = sendmmsg(fd, self._outgoing + done, self._queued - done, MSG_DONTWAIT)
            if sent <= 0:
                self._failures.append((self._numbers[done], errno))
                sent = 1
            done += sent
        self._queued = 0
        return <int>len(self._failures)

    cpdef list failures(self):
        return self._failures


def send_packet(int fd, bytes target, bytes packet):
    cdef sockaddr_in6 six
    cdef sockaddr_in *four = <sockaddr_in *>&six
    cdef unsigned int size
    memset(&six, 0, sizeof(six))
    if PyBytes_GET_SIZE(target) == 16:
        six.sin6_family, size = AF_INET6, sizeof(six)
        memcpy(&six.sin6_addr, PyBytes_AS_STRING(target), 16)
    else:
        four.sin_family, size = AF_INET, sizeof(sockaddr_in)
        memcpy(&four.sin_addr, PyBytes_AS_STRING(target), 4)
    if sendto(fd, PyBytes_AS_STRING(packet), PyBytes_GET_SIZE(packet), MSG_DONTWAIT, <sockaddr *>&six, size) < 0:
        return -errno
    return 0
