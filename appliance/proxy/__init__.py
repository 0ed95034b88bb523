"""The proxy: a supervisor and its workers, each with its own epoll loop.

How a TCP session comes about: the client's SYN reaches the worker's TUN (*held*); the worker dials
the origin; on success it writes the same SYN back (*released*), the kernel completes the handshake
on the worker's transparent listener, and the accepted socket meets its dialled twin by the four-tuple
(*paired*). From then on two ``Leg`` objects move the bytes. UDP and ping stay on the TUN all along:
the client's leg is the packets themselves, the origin's leg a socket for each of the client's
endpoints (RFC 6146's *binding*).
"""

from appliance.engine import prefer_compiled

prefer_compiled(__name__, __path__)
