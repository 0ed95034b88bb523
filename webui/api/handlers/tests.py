"""Tests from the box: ping, trace, look-up, a session across, and captures of frames."""

from __future__ import annotations

from webui.api.bodies import Capturing, Destination, LookedUp, Tested
from webui.api.route import OCTETS, Answer, Call, Route
from webui.api.schemas import reply_of


def ping(call: Call) -> Answer:
    return Answer({"result": call.backend.ping(call.body.target)})


def trace(call: Call) -> Answer:
    return Answer({"result": call.backend.trace(call.body.target)})


def look_up(call: Call) -> Answer:
    return Answer({"result": call.backend.look_up(call.body.name, call.body.type)})


def cross(call: Call) -> Answer:
    return Answer({"result": call.backend.cross(call.body.target, call.body.port)})


def get_capture(call: Call) -> Answer:
    return Answer({"capture": call.backend.capture()})


def start_capture(call: Call) -> Answer:
    b = call.body
    call.backend.start_capture(b.device, b.host, b.port, b.seconds, b.octets)
    return Answer({"capture": call.backend.capture()}, 202)


def stop_capture(call: Call) -> Answer:
    call.backend.stop_capture()
    return Answer(status=204)


def read_capture(call: Call) -> Answer:
    data = b""
    while part := call.backend.read_capture(len(data)):
        data += part
    return Answer(data)


ROUTES = (
    Route("POST", "/tests/ping", "ping", "tests", "Whether something answers the box", "Ping", ping,
          reply_of("Ping"), body=Tested, example={"target": "192.0.2.1"}),
    Route("POST", "/tests/trace", "trace", "tests", "The routers on the way to it", "Trace", trace,
          reply_of("Trace"), body=Tested, example={"target": "192.0.2.1"}),
    Route("POST", "/tests/look-up", "lookUp", "tests", "What the box's DNS64 answers", "LookUpName", look_up,
          reply_of("LookUpName"), body=LookedUp, example={"name": "www.example.org"}),
    Route("POST", "/tests/crossing", "cross", "tests", "A session to an IPv4 host, as a client's goes",
          "Cross", cross, reply_of("Cross"), body=Destination, example={"target": "www.example.org"}),
    Route("GET", "/capture", "getCapture", "tests", "The last capture of frames, or the one at work",
          "GetCapture", get_capture, reply_of("GetCapture"), refuses=(409,)),
    Route("POST", "/capture", "startCapture", "tests", "Begin to capture the frames of a port",
          "StartCapture", start_capture, reply_of("GetCapture"), 202, body=Capturing,
          example={"device": "wan0", "seconds": 10}),
    Route("POST", "/capture/stop", "stopCapture", "tests", "End it before its time", "StopCapture",
          stop_capture, status=204),
    Route("GET", "/capture/file", "readCapture", "tests", "The capture as a pcap file", "ReadCapture",
          read_capture, {"type": "string", "format": "binary"}, media=OCTETS, refuses=(409,)),
)  # fmt: skip
