"""HTTP/1.1 for a forward proxy (RFC 9110, 9112), sans-IO: octets in, octets for the other side out.

A message is read strictly and written anew from what was read; whatever two servers could read in two ways
is refused. Nothing of what tells the client's address goes upstream.

Glossary
--------
leg         one side of a proxied connection: the client's, the origin's
head        start line and fields, with the empty line
wire        octets as they go to the other side
framing     what says where a body ends: Content-Length, chunks, or the connection's end
hop         this proxy, as it shows in Via
interim     a 1xx response other than 101
own page    a request in origin-form, which is for the box (the PAC file)

How an engine uses it::

    client, origin = ClientLeg(hop), OriginLeg(hop)
    event = client.feed(data)               # None, a Request, or octets of its body
    origin.ask(request); send(request.wire) # once policy and the dialler agree
    event = origin.feed(data)               # None, a Response (send its .wire), or octets
    if origin.state is State.DONE:          # through; origin.reusable: back to the pool
        request = client.finish(response.keep)   # the next one, if it came already
    if client.state is State.CLOSED: ...    # flush and close

Where the response comes before the request's body is through (``client.state`` is not DONE), set
``origin.closing`` first: what is left of the body cannot be told from a next request.

While a leg's ``left`` is not 0, so many octets of body come next: splice them and call ``passed``.
"""

# ruff: noqa: E402 -- the compiled modules have to be preferred before the first of them is imported

from __future__ import annotations

from appliance.engine import prefer_compiled

prefer_compiled(__name__, __path__)

from appliance.protocol.http1.answer import CONNECTED, CONTINUE, answer, own_answer
from appliance.protocol.http1.client import ClientLeg
from appliance.protocol.http1.grammar import CHUNKED, MAX_HEAD, UNTIL_CLOSE, Refused
from appliance.protocol.http1.hop import Hop
from appliance.protocol.http1.leg import State
from appliance.protocol.http1.origin import OriginLeg
from appliance.protocol.http1.request import Request
from appliance.protocol.http1.request_line import Kind
from appliance.protocol.http1.response import Response

__all__ = [
    "ClientLeg",
    "OriginLeg",
    "State",
    "Request",
    "Kind",
    "Response",
    "Refused",
    "Hop",
    "CHUNKED",
    "UNTIL_CLOSE",
    "MAX_HEAD",
    "CONNECTED",
    "CONTINUE",
    "answer",
    "own_answer",
]
