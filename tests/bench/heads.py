"""What an HTTP/1 head costs: ours beside h11 and httptools (``python -m tests.bench.heads``).

A request of 12 fields and a response of 12: read, filtered and written anew. httptools is measured where it
is installed. The contenders take turns; the figure is the median of the rounds' best, in microseconds of CPU.
"""

from __future__ import annotations

import statistics
import time
import timeit
from collections.abc import Callable

import h11

from appliance.protocol.http1 import ClientLeg, Hop, OriginLeg, Request, Response
from appliance.protocol.http1.request import parse_request
from appliance.protocol.http1.response import parse_response

ROUNDS, NUMBER = 9, 5_000
HOP = Hop("isthmus-bench")
REQUEST = (
    b"GET http://www.example.org/some/path/to/a/resource.html?with=query&and=more HTTP/1.1\r\n"
    b"Host: www.example.org\r\nProxy-Connection: keep-alive\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Accept-Encoding: gzip, deflate\r\nAccept-Language: en-US,en;q=0.9,de;q=0.8\r\n"
    b"Cookie: session=abcdefghijklmnopqrstuvwxyz0123456789; theme=dark; consent=yes; tracking=no\r\n"
    b"Referer: http://www.example.org/\r\nUpgrade-Insecure-Requests: 1\r\nCache-Control: max-age=0\r\n"
    b'DNT: 1\r\nIf-None-Match: "abcdef"\r\n\r\n'
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nDate: Wed, 13 Sep 2023 11:09:41 GMT\r\nServer: nginx/1.22\r\n"
    b"Content-Type: text/html; charset=utf-8\r\nContent-Length: 1024\r\nConnection: keep-alive\r\n"
    b'ETag: "abc"\r\nLast-Modified: Wed, 13 Sep 2023 11:09:41 GMT\r\nAccept-Ranges: bytes\r\n'
    b"Vary: Accept-Encoding\r\nCache-Control: max-age=60\r\nX-Frame-Options: DENY\r\n"
    b"Strict-Transport-Security: max-age=31536000\r\n\r\n"
)
_DROPPED = frozenset((b"host", b"connection", b"proxy-connection", b"keep-alive", b"te", b"upgrade"))


def ours_request() -> object:
    return parse_request(REQUEST, HOP)


_ASKED = parse_request(REQUEST, HOP)


def ours_response() -> object:
    return parse_response(RESPONSE, _ASKED, HOP, True)


_client, _origin, _answer = ClientLeg(HOP), OriginLeg(HOP), RESPONSE + b"x" * 1024


def ours_exchange() -> object:
    request = _client.feed(REQUEST)
    assert type(request) is Request
    _origin.ask(request)
    response = _origin.feed(_answer)
    assert type(response) is Response
    return _client.finish(response.keep)


def _written(first: bytes, fields: list[tuple[bytes, bytes]]) -> bytes:
    lines = [first, *(name + b": " + value for name, value in fields if name.lower() not in _DROPPED)]
    return b"\r\n".join(lines) + b"\r\nVia: 1.1 isthmus-bench\r\n\r\n"


def h11_request() -> object:
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(REQUEST)
    event = reader.next_event()
    assert type(event) is h11.Request
    return _written(b"GET " + event.target + b" HTTP/1.1\r\nHost: www.example.org", list(event.headers))


def h11_both_ways() -> object:
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(REQUEST)
    event = reader.next_event()
    assert type(event) is h11.Request
    fields = [(name, value) for name, value in event.headers if name not in _DROPPED or name == b"host"]
    writer = h11.Connection(h11.CLIENT)
    return writer.send(h11.Request(method=event.method, target=event.target, headers=fields))


def _httptools() -> dict[str, Callable[[], object]]:
    try:
        import httptools
    except ModuleNotFoundError:
        return {}

    class Collector:
        def __init__(self) -> None:
            self.fields: list[tuple[bytes, bytes]] = []
            self.url = b""

        def on_url(self, url: bytes) -> None:
            self.url += url

        def on_header(self, name: bytes, value: bytes) -> None:
            self.fields.append((name, value))

    def read() -> object:
        collector = Collector()
        httptools.HttpRequestParser(collector).feed_data(REQUEST)
        return _written(b"GET " + collector.url + b" HTTP/1.1\r\nHost: www.example.org", collector.fields)

    return {"httptools, a Python filter": read}


def main() -> None:
    contenders: dict[str, Callable[[], object]] = {
        "ours, request": ours_request,
        "ours, response": ours_response,
        "ours, an exchange through both legs": ours_exchange,
        "h11, request, a plain serialiser": h11_request,
        "h11, request, both ways": h11_both_ways,
        **_httptools(),
    }
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _round in range(ROUNDS):
        for name, call in contenders.items():
            taken[name].append(
                min(timeit.repeat(call, timer=time.process_time, number=NUMBER, repeat=3)) / NUMBER * 1e6
            )
    print(f"request {len(REQUEST)} octets, response {len(RESPONSE)}; microseconds")
    for name, rounds in taken.items():
        print(f"{name:<40}{statistics.median(rounds):8.2f}")


if __name__ == "__main__":
    main()
