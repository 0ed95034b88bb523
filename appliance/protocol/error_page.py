"""Answers of the proxy's own for whom they concern: a page for a browser, one line for a tool.

Each says what is, what it means and what to do, in that order. Nothing of the request is shown unescaped.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import NamedTuple

from appliance.errors import CAPS, SHORTAGES, WIRE, Failure
from appliance.protocol.http1.answer import phrase
from appliance.protocol.http1.grammar import Refused

# A name longer than this is cut: no DNS name is, and the rest would be somebody's prank.
MAX_SHOWN = 253


class Page(NamedTuple):
    """What ``http1.answer`` takes: status, fields and content."""

    status: int
    fields: list[tuple[str, str]]
    content: bytes


@dataclass(frozen=True, slots=True)
class Text:
    """``{host}`` is where the client wanted to go."""

    what: str
    means: str
    do: str


_ADMINISTRATOR = "Ask whoever runs this network if it should be possible."
_TEXTS: dict[Failure, Text] = {
    Failure.REFUSED: Text(
        "{host} refused the connection.",
        "The server was reached, but nothing there accepts connections on this port.",
        "Check the port in the address, or try again later.",
    ),
    Failure.NO_ROUTE: Text(
        "There is no route to {host}.",
        "This network cannot reach the part of the internet where the server is.",
        "If other sites do not load either, the internet connection may be down.",
    ),
    Failure.HOST_UNREACHABLE: Text(
        "{host} cannot be reached.",
        "A router on the way reported that the server does not answer.",
        "Try again later. If other sites load, the fault is at the server's end.",
    ),
    Failure.PORT_UNREACHABLE: Text(
        "{host} refused the connection.",
        "The server was reached, but nothing there answers on this port.",
        "Check the port in the address, or try again later.",
    ),
    Failure.PROHIBITED: Text(
        "The way to {host} is closed.",
        "A router or firewall beyond this network does not let the connection pass.",
        "Nothing on this network can change that. Ask whoever runs the server.",
    ),
    Failure.TIMEOUT: Text(
        "{host} did not answer in time.",
        "The server may be down or overloaded, or something on the way drops the connection.",
        "Try again in a minute. If other sites load, the fault is at the server's end.",
    ),
    Failure.DENIED: Text(
        "{host} is blocked on this network.",
        "A rule of this network does not allow the connection. The server was not contacted.",
        _ADMINISTRATOR,
    ),
    Failure.NON_GLOBAL: Text(
        "{host} is a private address.",
        "The address has no meaning on the internet, and no private network is set up for it here.",
        _ADMINISTRATOR,
    ),
    Failure.LIMIT: Text(
        "Too many connections are open.",
        "You have reached a limit that this network sets, so {host} was not contacted.",
        "Close some connections, or wait a moment and try again.",
    ),
    Failure.RESOURCES: Text(
        "The proxy is out of resources.",
        "It has no room for another connection at the moment, so {host} was not contacted.",
        "Try again in a minute. If this lasts, tell whoever runs this network.",
    ),
    Failure.RESET: Text(
        "{host} closed the connection.",
        "The server, or something on the way, ended it before the answer was complete.",
        "Try again. If it happens each time, the fault is at the server's end.",
    ),
    Failure.TOO_BIG: Text(
        "A packet to {host} was too big.",
        "A link on the way carries only smaller packets.",
        "Try again. If this lasts, tell whoever runs this network.",
    ),
    Failure.NO_NAME: Text(
        "{host} does not exist.",
        "The DNS has no address for this name.",
        "Check the spelling of the address.",
    ),
    Failure.NAME_FAILED: Text(
        "{host} could not be looked up.",
        "The DNS servers answered that they cannot resolve this name at the moment.",
        "Try again in a minute. If other sites load, the fault is with the name's own DNS servers.",
    ),
    Failure.NAME_TIMEOUT: Text(
        "{host} could not be looked up in time.",
        "The DNS servers did not answer.",
        "If other sites do not load either, the internet connection may be down.",
    ),
    Failure.LOOP: Text(
        "The request goes round in a circle.",
        "It has passed through this proxy before, so it would never arrive at {host}.",
        "Check the proxy settings of this device, and of any proxy between it and this network.",
    ),
}


def wants_html(accept: bytes | None) -> bool:
    """Whether the value of Accept asks for HTML by name, as browsers do for pages and tools do not."""
    for part in (accept or b"").lower().split(b","):
        kind, *parameters = (piece.strip() for piece in part.split(b";"))
        if kind in (b"text/html", b"application/xhtml+xml"):
            return not any(re.fullmatch(rb"q=0(\.0*)?", parameter) for parameter in parameters)
    return False


def failure_page(
    failure: Failure,
    host: str,
    *,
    as_html: bool,
    rule: str = "",
    reference: str = "",
    note: str = "",
    ask: str = "",
) -> Page:
    """A session that did not come about.

    ``rule`` names the rule that denied it, ``note`` is its owner's words about it, ``reference`` a log row;
    ``ask``: the path that a form which asks for access is sent to, where one may.
    """
    wire = WIRE[failure]
    # Which limit it was is the log's business; what to do is the same.
    common = Failure.LIMIT if failure in CAPS else Failure.RESOURCES if failure in SHORTAGES else failure
    text = _TEXTS[common]
    shown = host[:MAX_SHOWN] or "the server"
    notes = [*([note] if note else []), *([f"Rule: {rule}"] if rule else [])]
    details = f"rule {rule}" if rule else wire.log
    if reference:
        details += f", reference {reference}"
    form = _FORM.format(ask=html.escape(ask), reference=html.escape(reference)) if ask else ""
    return _page(
        wire.http,
        Text(*(part.replace("{host}", shown) for part in (text.what, text.means, text.do))),
        wire.proxy_status,
        details,
        as_html,
        [*notes, *([f"Reference: {reference}"] if reference else [])],
        form,
    )


class Asked(NamedTuple):
    """How a form is answered: its status, and in words."""

    status: int
    text: Text


_ASKED = {
    "taken": Asked(
        200,
        Text(
            "Your request was passed on.",
            "Whoever runs this network sees it, with your note.",
            "If it is granted, {host} opens when you load it again.",
        ),
    ),
    "already": Asked(
        200,
        Text(
            "You have asked for {host} already.",
            "The request waits for whoever runs this network.",
            "If it is granted, {host} opens when you load it again.",
        ),
    ),
    "full": Asked(
        503,
        Text(
            "Too many requests wait.",
            "None of them was answered yet, so yours was not taken.",
            _ADMINISTRATOR,
        ),
    ),
    "too often": Asked(
        429, Text("You have asked too often.", "The request was not taken.", "Wait a minute, and ask again.")
    ),
    "unknown": Asked(
        403,
        Text(
            "This page is too old to ask by.",
            "The proxy does not know its reference any more, or has told it somebody else.",
            "Load {host} again, and ask from the page that comes.",
        ),
    ),
    "broken": Asked(
        503,
        Text("Your request could not be kept.", "The disk of the proxy refuses.", _ADMINISTRATOR),
    ),
}


def asked_page(answer: str, host: str, *, as_html: bool) -> Page:
    """The answer to a form that asks for access; ``answer``: the value of a ``proxy.access.Answer``."""
    status, text = _ASKED[answer]
    shown = host[:MAX_SHOWN]
    words = Text(*(part.replace("{host}", shown) for part in (text.what, text.means, text.do)))
    page = _page(status, words, "", "", as_html, [])
    if status != 200:
        return page
    # Nothing has failed.
    return page._replace(fields=[field for field in page.fields if field[0] != "Proxy-Status"])


def refused_page(refused: Refused, *, as_html: bool) -> Page:
    """A message that broke HTTP's rules, the client's or the origin's."""
    if refused.status >= 500 and refused.error != "http_request_error":
        text = Text(
            refused.reason,
            "The server's answer breaks the rules of HTTP, so it was not passed on.",
            "Try again later. If it lasts, tell whoever runs the server.",
        )
        if refused.error == "proxy_loop_detected":
            text = Text(refused.reason, _TEXTS[Failure.LOOP].what, _TEXTS[Failure.LOOP].do)
    else:
        text = Text(
            refused.reason,
            "The request was not passed on, because two servers could read it in two ways.",
            "If your program is up to date, report this to its makers.",
        )
        if refused.status == 408:
            text = Text(refused.reason, "The connection may be slow, or was interrupted.", "Try again.")
        elif refused.status != 400:
            text = Text(refused.reason, "The proxy does not carry such requests.", _ADMINISTRATOR)
    return _page(refused.status, text, refused.error, refused.reason, as_html, [])


def login_page(realm: str, *, as_html: bool, offer: bool = True, wrong: bool = False) -> Page:
    """407. Without ``offer`` there is no challenge: a password is not asked for where it could be read."""
    if not offer:
        return _page(
            403,
            Text(
                "This proxy needs a user, but not over an unencrypted connection.",
                "Your password would cross the network for everyone to read.",
                "Use the proxy's encrypted port (https) in the settings of this device.",
            ),
            "http_request_denied",
            "authentication over plaintext is off",
            as_html,
            [],
        )
    page = _page(
        407,
        Text(
            "The user or password is not right." if wrong else "This proxy needs a user and a password.",
            "Only users of this network may go through it.",
            "Log in, or ask whoever runs this network for a user.",
        ),
        "http_request_denied",
        "authentication failed" if wrong else "authentication required",
        as_html,
        [],
    )
    challenge = f'Basic realm="{_quoted(realm)}", charset="UTF-8"'  # RFC 7617
    return page._replace(fields=[("Proxy-Authenticate", challenge), *page.fields])


def proxy_status(error: str, details: str) -> str:
    """The value of Proxy-Status (RFC 9209): a list with one item, ours."""
    return f'isthmus; error={error}; details="{_quoted(details)}"'


def _quoted(text: str) -> str:
    """The inside of a quoted string of structured fields (RFC 8941 section 3.3.3): ASCII, two escapes."""
    ascii_only = "".join(sign if " " <= sign <= "~" else "?" for sign in text)
    return ascii_only.replace("\\", "\\\\").replace('"', '\\"')


def _page(
    status: int, text: Text, error: str, details: str, as_html: bool, notes: list[str], form: str = ""
) -> Page:
    fields = [
        ("Proxy-Status", proxy_status(error, details)),
        ("Cache-Control", "no-store"),
        ("Content-Language", "en"),
    ]
    if not as_html:
        line = " ".join([text.what, text.means, text.do, *(f"({note})" for note in notes)])
        plain = "".join(sign if sign.isprintable() else "?" for sign in line) + "\n"
        return Page(
            status, [("Content-Type", "text/plain; charset=utf-8"), *fields], plain.encode("utf-8", "replace")
        )
    fields += [
        (
            "Content-Security-Policy",
            _CONTENT_POLICY + ("form-action 'self'" if form else "form-action 'none'"),
        ),
        ("X-Content-Type-Options", "nosniff"),
    ]
    foot = " · ".join(html.escape(part) for part in [f"{status} {phrase(status)}", error, *notes] if part)
    content = _HTML.format(
        what=html.escape(text.what),
        means=html.escape(text.means),
        do=html.escape(text.do),
        foot=foot,
        form=form,
    )
    return Page(
        status, [("Content-Type", "text/html; charset=utf-8"), *fields], content.encode("utf-8", "replace")
    )


_CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; "
# No script: the browser sends it. 500 signs as ``session.access.MAX_NOTE``.
_FORM = """
<form method="post" action="{ask}">
<input type="hidden" name="reference" value="{reference}">
<p><label for="note">Why do you need it? Whoever runs this network reads this.</label><br>
<textarea id="note" name="note" rows="3" maxlength="500"></textarea></p>
<p><button type="submit">Ask for access</button></p>
</form>"""
_HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{what}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 15vh auto 2rem; padding: 0 1.5rem; }}
h1 {{ font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; }}
p {{ overflow-wrap: anywhere; }}
textarea {{ font: inherit; width: 100%; box-sizing: border-box; }}
button {{ font: inherit; padding: .5rem 1rem; }}
footer {{ margin-top: 2rem; padding-top: 1rem; border-top: 1px solid; font-size: .875rem; }}
</style>
</head>
<body>
<main>
<h1>{what}</h1>
<p>{means}</p>
<p>{do}</p>{form}
</main>
<footer>Isthmus, the proxy of this network · {foot}</footer>
</body>
</html>
"""
