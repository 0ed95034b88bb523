"""Many datagrams at once, by recvmmsg and sendmmsg. batch.py is the reference: the same functions with
Python's own calls, with what each one does written on it."""

import socket

from libc.errno cimport EAGAIN, EINTR, errno
from libc.string cimport memset

cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <netinet/in.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    """
    ctypedef unsigned int socklen_t
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    int recvmmsg(int fd, mmsghdr *messages, unsigned int count, int flags, void *timeout)
    int sendmmsg(int fd, mmsghdr *messages, unsigned int count, int flags)
    int MSG_DONTWAIT

MOST = 64
SIZE = 4097
cdef enum:
    _MOST = 64
    _SIZE = 4097
    _ADDRESS = 28  # octets of struct sockaddr_in6

cdef char _data[_MOST][_SIZE]
cdef char _names[_MOST][_ADDRESS]
cdef iovec _vectors[_MOST]
cdef mmsghdr _messages[_MOST]


cdef int _fetch(int fd, bint named):
    """Number of datagrams now in the arrays."""
    cdef int index, count
    for index in range(_MOST):
        _vectors[index].iov_base = &_data[index][0]
        _vectors[index].iov_len = _SIZE
        _messages[index].msg_hdr.msg_iov = &_vectors[index]
        _messages[index].msg_hdr.msg_iovlen = 1
        _messages[index].msg_hdr.msg_name = &_names[index][0] if named else NULL
        _messages[index].msg_hdr.msg_namelen = _ADDRESS if named else 0
        _messages[index].msg_hdr.msg_control = NULL
        _messages[index].msg_hdr.msg_controllen = 0
    while True:
        count = recvmmsg(fd, _messages, _MOST, MSG_DONTWAIT, NULL)
        if count >= 0:
            return count
        if errno == EAGAIN:
            return 0
        # Interrupted, or an ICMP error to an earlier datagram, which is thereby forgotten.
        if errno != EINTR:
            return 0


cdef _flush(int fd, int count):
    """Send the first datagrams of the arrays; one that cannot be sent is left out, a full buffer ends it."""
    cdef int first = 0, sent
    while first < count:
        sent = sendmmsg(fd, &_messages[first], count - first, MSG_DONTWAIT)
        if sent > 0:
            first += sent
        elif errno == EAGAIN:
            return
        elif errno != EINTR:
            first += 1


def receive(sock):
    """What has come to an IPv6 socket, with the addresses it came from."""
    cdef int index, count = _fetch(sock.fileno(), True)
    cdef list found = []
    for index in range(count):
        if _messages[index].msg_hdr.msg_namelen == _ADDRESS:
            found.append((_data[index][:_messages[index].msg_len], _names[index][:_ADDRESS]))
    return found


def receive_connected(sock):
    """What has come from the one that the socket is connected to."""
    cdef int index, count = _fetch(sock.fileno(), False)
    cdef list found = []
    for index in range(count):
        found.append(_data[index][:_messages[index].msg_len])
    return found


def send(sock, list packets):
    """Send each to its address. UDP may lose some; the client asks again."""
    cdef int fd = sock.fileno(), count = 0
    cdef bytes packet, address
    for packet, address in packets:
        _vectors[count].iov_base = <char *>packet
        _vectors[count].iov_len = len(packet)
        memset(&_messages[count], 0, sizeof(mmsghdr))
        _messages[count].msg_hdr.msg_iov = &_vectors[count]
        _messages[count].msg_hdr.msg_iovlen = 1
        _messages[count].msg_hdr.msg_name = <char *>address
        _messages[count].msg_hdr.msg_namelen = _ADDRESS
        count += 1
        if count == _MOST:
            _flush(fd, count)
            count = 0
    _flush(fd, count)


def send_connected(sock, list packets):
    """Send each to the one that the socket is connected to."""
    cdef int fd = sock.fileno(), count = 0
    cdef bytes packet
    for packet in packets:
        _vectors[count].iov_base = <char *>packet
        _vectors[count].iov_len = len(packet)
        memset(&_messages[count], 0, sizeof(mmsghdr))
        _messages[count].msg_hdr.msg_iov = &_vectors[count]
        _messages[count].msg_hdr.msg_iovlen = 1
        count += 1
        if count == _MOST:
            _flush(fd, count)
            count = 0
    _flush(fd, count)


def client_of(bytes address):
    """The client's sixteen octets."""
    return address[8:24]


def name_of(bytes address):
    """The client's address as text."""
    return socket.inet_ntop(socket.AF_INET6, address[8:24])


def tuple_of(bytes address):
    """The address as Python's sockets have it."""
    return (
        name_of(address),
        int.from_bytes(address[2:4], "big"),
        int.from_bytes(address[4:8], "big"),
        int.from_bytes(address[24:28], "little"),
    )
