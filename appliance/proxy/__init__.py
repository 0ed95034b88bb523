"""The proxy: a supervisor and its workers, each with its own epoll loop.

How a TCP session comes about: the client's SYN reaches the worker's TUN (*held*); the worker dials
the origin; on success it writes the same SYN back (*released*), the kernel completes the handshake
on the worker's transparent listener, and the accepted socket meets its dialled twin by the four-tuple
(*paired*). From then on two ``Leg`` objects move the bytes. A client's datagrams reach a socket of its
worker's and leave by raw sockets, under a port for each of the client's endpoints (RFC 6146's *binding*).
Ping stays on the TUN.

Clients that know of the proxy reach its listeners (*explicit*): each connection is a ``Stream`` until it is
known what is wanted, then an HTTP *exchange* after the other, or a *tunnel*.
"""

from appliance.engine import prefer_compiled

prefer_compiled(__name__, __path__)
