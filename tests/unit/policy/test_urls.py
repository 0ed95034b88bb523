"""Every spelling of a URL is the same one to a rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.policy.urls import one_spelling


@pytest.mark.parametrize(
    "url",
    [
        "site.example/ads/x.js",
        "site.example/%61ds/x.js",
        "site.example/%61%64%73/x%2Ejs",
        "site.example//ads///x.js",
        "site.example/./ads/x.js",
        "site.example/%2e/ads/./x.js",
        "site.example/a/../ads/x.js",
        "site.example/../ads/b/%2e%2E/x.js",
    ],
)
def test_what_means_the_same(url: str) -> None:
    assert one_spelling(url) == "site.example/ads/x.js"


@pytest.mark.parametrize(
    "url",
    [
        "site.example",
        "site.example/",
        "site.example/a%2Fb",  # a slash that is no separator
        "site.example/a%20b",
        "site.example/a.b/..c/.d",
        "site.example/a?b=//x/../y&c=%2F",
        "[2001:db8::1]:8080/a",
    ],
)
def test_what_is_something_else_stays(url: str) -> None:
    assert one_spelling(url) == url


def test_what_an_escape_is_written_with_makes_no_difference() -> None:
    assert one_spelling("h/%c3%a4") == one_spelling("h/%C3%A4") == "h/%C3%A4"


@pytest.mark.parametrize(
    ("url", "plain"), [("h/a/..", "h/"), ("h/a/.", "h/a/"), ("h/..", "h/"), ("h/a/b/../", "h/a/")]
)
def test_dots_at_the_end(url: str, plain: str) -> None:
    assert one_spelling(url) == plain


@given(st.text(st.sampled_from("a./%2eE?h"), max_size=24))
def test_once_is_enough(path: str) -> None:
    """But for an escape that an escape made, which is another URL."""
    once = one_spelling("host/" + path)
    if "%" not in once:
        assert one_spelling(once) == once
    assert once.startswith("host")
