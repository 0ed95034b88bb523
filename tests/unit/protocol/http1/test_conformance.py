"""Cases that others published against HTTP/1 proxies and servers, judged by what goes out (see judge).

The cases are no part of the project: the tests are skipped where they are absent. Each prints a summary.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from appliance.protocol.http1 import ClientLeg, Kind, OriginLeg, Refused, Request, Response, State, answer
from tests.unit.protocol.http1.drive import HOP, asked
from tests.unit.protocol.http1.judge import Judgement, judge_requests, judge_response

CASES = Path(__file__).resolve().parents[5] / "shared" / "conformance"
_ORIGIN_FORM = re.compile(rb"((?:\r\n)*[!-~]+ )/")

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the published cases are not here")


def cases(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CASES / name).read_text().splitlines()]


def table(capsys: pytest.CaptureFixture[str], title: str, rows: dict[str, Counter[str]]) -> None:
    columns = sorted({column for row in rows.values() for column in row})
    with capsys.disabled():
        print(f"\n{title:<12}" + "".join(f"{column:>14}" for column in columns))
        for name, row in sorted(rows.items()):
            print(f"{name:<12}" + "".join(f"{row[column]:>14}" for column in columns))


def to_origin(raw: bytes, size: int) -> tuple[bytes, list[Request], int]:
    """What an origin gets of a client's octets, the requests behind it, and the status of a refusal."""
    leg, out, requests = ClientLeg(HOP), b"", []
    status = 0
    try:
        for at in range(0, len(raw), size):
            event: Request | bytes | None = leg.feed(raw[at : at + size])
            while event is not None:
                if isinstance(event, Request):
                    requests.append(event)
                    out += event.wire
                elif requests[-1].kind is Kind.FORWARD:
                    out += event
                event = leg.finish(True) if leg.state is State.DONE else None
            if leg.state is State.CLOSED:
                break
        leg.eof()
    except Refused as error:
        status = error.status
    return out, requests, status


def absolute(raw: bytes) -> bytes:
    """The same with the first request's target in absolute form."""
    return _ORIGIN_FORM.sub(rb"\1http://origin.example/", raw, count=1) if _ORIGIN_FORM.match(raw) else raw


@pytest.mark.parametrize("size", [1 << 30, 1])
def test_requests(size: int, capsys: pytest.CaptureFixture[str]) -> None:
    rows: dict[str, Counter[str]] = {}
    dangerous, odd, lost = [], [], []
    for case in cases("http1-requests.jsonl"):
        raw = absolute(base64.b64decode(case["raw_b64"]))
        if size == 1 and len(raw) > 20_000:
            continue
        out, requests, _status = to_origin(raw, size)
        forwarded = [request for request in requests if request.kind is Kind.FORWARD]
        verdict = judge_requests(out)
        row = rows.setdefault(case["expect"], Counter())
        row["cases"] += 1
        row.update({"forwarded": bool(forwarded), "dangerous": 0, "odd": 0})
        if verdict.dangerous or len(verdict.messages) != len(forwarded):
            row["dangerous"] += 1
            dangerous.append((case["id"], verdict.dangerous, out[:200]))
        elif case["expect"] == "valid":
            if forwarded and carried(raw, forwarded[0], verdict):
                row["carried"] += 1
            else:
                lost.append(case["id"])
        elif verdict.odd:
            row["odd"] += 1
            odd.append((case["id"], verdict.odd, out[:200]))
    table(capsys, "requests", rows)
    assert not dangerous
    assert len(odd) <= 2, odd
    assert rows["valid"]["carried"] >= 0.9 * rows["valid"]["cases"], lost


def carried(raw: bytes, request: Request, verdict: Judgement) -> bool:
    """Whether the origin got the first request whole, or as much of its body as the client sent."""
    message = verdict.messages[0]
    if not message.start.startswith(request.method.encode() + b" " + request.target + b" "):
        return False
    body = raw.lstrip(b"\r\n").partition(b"\r\n\r\n")[2]
    if message.whole:
        return True
    return request.length > 0 and message.body == body


@pytest.mark.parametrize("size", [1 << 30, 1])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_responses(size: int, method: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows: dict[str, Counter[str]] = {}
    bad = []
    for case in cases("http1-responses.jsonl"):
        raw = base64.b64decode(case["raw_b64"])
        if size == 1 and len(raw) > 20_000:
            continue
        out, state, cut = to_client(raw, size, method, not case["hold"])
        row = rows.setdefault(case["expect"], Counter())
        row["cases"] += 1
        verdict = judge_response(out, closed=not cut, method=method)
        finals = [m for m in verdict.messages if m.start[9:10] != b"1"]
        whole = bool(finals) and finals[-1].whole
        row["carried"] += whole and finals[-1].start[9:12] != b"502"
        problems = {
            "dirty": bool(verdict.dangerous or verdict.odd),
            "leaked": bool(verdict.rest) and (whole or not finals),
            "faked": whole and cut,
            "hung": not case["hold"] and state not in (State.DONE, State.CLOSED, State.TUNNEL),
        }
        for name, found in problems.items():
            row[name] += found
            if found:
                bad.append((case["id"], name, verdict, out[:300]))
    table(capsys, f"to {method}", rows)
    assert not bad
    assert rows["valid"]["carried"] >= 0.9 * rows["valid"]["cases"]


def to_client(raw: bytes, size: int, method: str, closes: bool) -> tuple[bytes, State, bool]:
    """What a client gets, how the leg ended, and whether the client's connection was cut short."""
    leg, out = OriginLeg(HOP), b""
    leg.ask(asked(method))
    try:
        for at in range(0, len(raw), size):
            event = leg.feed(raw[at : at + size])
            out += event.wire if isinstance(event, Response) else event or b""
        if closes:
            leg.eof()
    except Refused as error:
        if leg.started:
            return out, leg.state, True
        fields = [("Proxy-Status", f"isthmus; error={error.error}")]
        out += answer(error.status, fields, error.reason.encode(), head_only=method == "HEAD")
    return out, leg.state, False
