"""Every failure has a page that a person can read, and nothing of a request's gets out of its place."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import WIRE, Failure
from appliance.protocol.error_page import Page, asked_page, failure_page, login_page, refused_page, wants_html
from appliance.protocol.http1 import Refused, answer
from appliance.proxy.access import Answer

EVIL = '"><script>alert(1)</script>\r\nSet-Cookie: a=b\\'


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)


def check(page: Page, as_html: bool) -> None:
    whole = answer(page.status, page.fields, page.content)
    head, _, content = whole.partition(b"\r\n\r\n")
    fields = dict(page.fields)
    assert re.fullmatch(r'isthmus; error=[a-z_]+; details="([ !#-\[\]-~]|\\["\\])*"', fields["Proxy-Status"])
    assert head.count(b"\r\n") == len(page.fields) + 2
    assert content == page.content and fields["Cache-Control"] == "no-store"
    if as_html:
        tags = Tags()
        tags.feed(content.decode())
        assert tags.found == [
            "html", "head", "meta", "meta", "title", "style", "body", "main", "h1", "p", "p", "footer"
        ]  # fmt: skip
    else:
        assert content.count(b"\n") == 1 and content.endswith(b"\n")
        assert fields["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("failure", Failure)
@pytest.mark.parametrize("as_html", [True, False])
def test_every_failure(failure: Failure, as_html: bool) -> None:
    page = failure_page(failure, "www.example.org", as_html=as_html)
    assert page.status == WIRE[failure].http
    assert b"www.example.org" in page.content or failure is Failure.RESOURCES
    check(page, as_html)
    check(failure_page(failure, EVIL, as_html=as_html, rule=EVIL, reference=EVIL), as_html)


@pytest.mark.parametrize("as_html", [True, False])
def test_other_pages(as_html: bool) -> None:
    ours, theirs = "http_request_error", "http_protocol_error"
    for status, error in ((400, ours), (431, ours), (501, ours), (502, theirs), (502, "proxy_loop_detected")):
        page = refused_page(Refused(status, EVIL, error), as_html=as_html)
        assert page.status == status
        check(page, as_html)
    for wrong in (True, False):
        page = login_page('Isthmus "x"', as_html=as_html, wrong=wrong)
        assert page.status == 407
        assert page.fields[0] == ("Proxy-Authenticate", 'Basic realm="Isthmus \\"x\\"", charset="UTF-8"')
        check(page, as_html)
    page = login_page("x", as_html=as_html, offer=False)
    assert page.status == 403 and "Proxy-Authenticate" not in dict(page.fields)
    check(page, as_html)


def test_the_rule_and_the_reference_are_named() -> None:
    page = failure_page(Failure.DENIED, "a.example", as_html=False, rule="no games", reference="ab12")
    assert page.content == (
        b"a.example is blocked on this network. A rule of this network does not allow the connection. "
        b"The server was not contacted. Ask whoever runs this network if it should be possible. "
        b"(Rule: no games) (Reference: ab12)\n"
    )
    status = 'isthmus; error=http_request_denied; details="rule no games, reference ab12"'
    assert page.fields[1] == ("Proxy-Status", status)


def test_a_form_asks_for_access_without_a_script() -> None:
    page = failure_page(Failure.DENIED, EVIL, as_html=True, rule="r", reference=EVIL, ask="/.isthmus/ask")
    assert b'<form method="post" action="/.isthmus/ask">' in page.content
    assert b"form-action 'self'" in dict(page.fields)["Content-Security-Policy"].encode()
    assert EVIL.encode() not in page.content
    bare = failure_page(Failure.DENIED, "a.example", as_html=True)
    assert b"<form" not in bare.content
    assert "form-action 'none'" in dict(bare.fields)["Content-Security-Policy"]


@pytest.mark.parametrize("as_html", [True, False])
@pytest.mark.parametrize("answer", list(Answer))
def test_a_form_is_answered_in_words(answer: Answer, as_html: bool) -> None:
    page = asked_page(answer.value, EVIL, as_html=as_html)
    assert ("Proxy-Status" in dict(page.fields)) is (page.status != 200)
    assert b"{host}" not in page.content
    assert not as_html or b"<script" not in page.content


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        (b"application/json, TEXT/HTML;q=0.2", True),
        (b"text/html;q=0.0", False),
        (b"*/*", False),
        (b"", False),
        (None, False),
    ],
)
def test_who_wants_html(accept: bytes | None, html: bool) -> None:
    assert wants_html(accept) is html


@given(st.text(max_size=300), st.text(max_size=40), st.booleans())
def test_any_host_and_rule(host: str, rule: str, as_html: bool) -> None:
    check(failure_page(Failure.DENIED, host, as_html=as_html, rule=rule), as_html)


@given(st.binary(max_size=60))
def test_any_accept(accept: bytes) -> None:
    wants_html(accept)
