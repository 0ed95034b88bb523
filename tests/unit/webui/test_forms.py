"""Forms as a whole: what a page shows, sent back, changes nothing; and nothing that is sent breaks a page."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from appliance.config import parse
from appliance.config.rules import Limit, Rule
from appliance.config.schema import Config, Explicit, Listener, Named, Proxy, Published, as_plain
from appliance.config.sides import Lan
from tests.unit.webui.conftest import get, post, signed_in
from tests.unit.webui.fake import CONFIG, FakeControl
from webui.app import POLICY_DEFAULT
from webui.forms.form import Form
from webui.forms.layout import Field, Part, Root
from webui.forms.plain import at, replaced, steps, token
from webui.forms.plain import problems as problems_of
from webui.forms.shape import Kind, Shape, shape_of
from webui.layouts.network import EXPLICIT, NETWORK, SYSTEM, TRAFFIC
from webui.links import TABLES

MORE = """
[lan]
prefix = "fd00:1::/64"
client_prefix = "fd00:64::/96"
[wan]
mode = "static"
address = "192.0.2.2/24"
gateway = "192.0.2.1"
[dns]
upstreams = ["192.0.2.53", "192.0.2.54"]
dnssec = true
exclude_names = ["corp.example"]
exclude_clients = ["fd00:1:0:0:8000::/65"]
[[translation]]
prefix = "64:ff9b::/96"
[[translation]]
prefix = "64:ff9b:1::/96"
networks = ["10.0.0.0/8"]
domains = ["corp.example"]
upstreams = ["10.0.0.53"]
sources = ["192.0.2.3", "192.0.2.4"]
[[published]]
name = "web"
port = 443
targets = ["[fd00:1::80]:443"]
reveal = "address"
[[published]]
name = "shared"
port = 8443
route = "sni"
names = [{hosts = ["*.example.org", "a.example"], targets = ["[fd00:1::81]:443"]}, \
{hosts = ["b.example"], targets = ["[fd00:1::82]:443"]}]
[[device]]
name = "print-server"
macs = ["02:00:5e:10:00:01", "02:00:5e:10:00:02"]
[[rule]]
name = "all-of-it"
action = "allow"
enabled = false
users = ["ann@home.example"]
devices = ["print-server"]
sources = ["fd00:1::/64", "192.0.2.0/24"]
destinations = ["198.51.100.0/24"]
ports = ["80", "8000-8999"]
protocols = ["tcp", "icmp"]
ways = ["http", "dns"]
urls = ["a.example/x*"]
content_types = ["video/*"]
larger_than = 0
note = "“Ask” & <see>"
[[limit]]
name = "all"
each = "all"
kbit_per_second = 20000
new_per_second = 7
"""
SECTIONS = (NETWORK, EXPLICIT, SYSTEM, TRAFFIC, POLICY_DEFAULT)
RICH = as_plain(parse(CONFIG + MORE))
# Every form of the console: its address.
FORMS = [page.url for page in SECTIONS] + [
    f"{table.url}/edit?name={entry[table.identity]}" for table in TABLES for entry in at(RICH, table.path, [])
]


class Sent(HTMLParser):
    """What a browser would send of the page's largest form: its fields in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[list[tuple[str, str]]] = []
        self._select = ""
        self._within = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        if tag == "form":
            self.forms.append([])
            self._within = True
        if not self._within:
            return
        if tag == "input":
            boxed = found.get("type") in ("checkbox", "radio")
            if not boxed or "checked" in found:
                self.forms[-1].append((found.get("name", ""), found.get("value", "")))
        elif tag == "select":
            self._select = found["name"]
        elif tag == "option" and "selected" in found and self._select:
            self.forms[-1].append((self._select, found["value"]))

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._within = False
        elif tag == "select":
            self._select = ""


def sent(page: str) -> MultiDict[str, str]:
    """Of a page as it is."""
    parser = Sent()
    parser.feed(page)
    return MultiDict(max(parser.forms, key=len))


@pytest.fixture
def admin(client: FlaskClient, control: FakeControl) -> FlaskClient:
    """Signed in at a box on which everything is set."""
    control.plain = as_plain(parse(CONFIG + MORE))
    signed_in(client, control)
    return client


@pytest.mark.parametrize("url", FORMS)
def test_what_a_page_shows_is_what_it_takes(url: str, admin: FlaskClient, control: FakeControl) -> None:
    fields = sent(get(admin, url).text)
    assert len(fields) > 2
    fields.pop("csrf")
    done = post(admin, url, url, **fields.to_dict(flat=False))
    assert done.status_code == 303
    assert control.candidates == {}, "nothing was changed"


def everything(layout: tuple[Part, ...], roots: dict[str, Root]) -> set[str]:
    return {f"{roots[part.root].model.__name__}.{one.name}" for part in layout for one in part.fields}


def test_every_setting_of_the_schema_has_its_place() -> None:
    """But for users and groups, which have pages of their own, and the file's version."""
    placed = {f"{t.model.__name__}.{one.name}" for t in TABLES for part in t.parts for one in part.fields}
    for page in SECTIONS:
        placed |= everything(page.parts, dict(page.roots))
    models = [table.model for table in TABLES]
    models += [root.model for page in SECTIONS for root in page.roots.values()]
    wanted = {f"{model.__name__}.{name}" for model in models for name in model.model_fields}
    wanted -= {"Proxy.timers", "Explicit.listeners"}
    assert {name.replace("timers.", "") for name in placed if "timers." not in name} == wanted
    timers = {name for name in placed if "timers." in name}
    assert timers == {f"Proxy.timers.{name}" for name in type(Config().proxy.timers).model_fields}


def test_every_choice_has_its_words() -> None:
    def check(one: Field, shape: Shape) -> None:
        if shape.kind in (Kind.CHOICE, Kind.SEVERAL):
            assert set(one.words) >= set(shape.choices), one.name
        for inner in one.fields:
            assert shape.model is not None
            check(inner, shape_of(shape.model, inner.name))

    for table in TABLES:
        for part in table.parts:
            for one in part.fields:
                check(one, shape_of(table.model, one.name))
    for page in SECTIONS:
        for part in page.parts:
            for one in part.fields:
                check(one, shape_of(page.roots[part.root].model, one.name))


@pytest.mark.parametrize(
    ("model", "name", "wanted"),
    [
        (Lan, "prefix", Shape(Kind.TEXT, default="generated")),
        (Lan, "client_prefix", Shape(Kind.TEXT, optional=True)),
        (Listener, "port", Shape(Kind.NUMBER, low=1, high=65_535)),
        (Listener, "tls", Shape(Kind.CHECK, default=False)),
        (Listener, "authentication", Shape(Kind.SEVERAL, default=[], choices=("password", "certificate"))),
        (Explicit, "connect_ports", Shape(Kind.ROWS, default=[443], low=1, high=65_535, numbers=True)),
        (Proxy, "timers.udp", Shape(Kind.NUMBER, default=300, low=120, high=86_400)),
        (Limit, "mib_per_day", Shape(Kind.NUMBER, optional=True, low=1, high=1 << 40)),
        (Rule, "until", Shape(Kind.MOMENT, optional=True)),
        (Rule, "sources", Shape(Kind.ROWS, default=[])),
        (Rule, "action", Shape(Kind.CHOICE, choices=("allow", "deny"))),
    ],
)
def test_shapes(model: Any, name: str, wanted: Shape) -> None:
    assert shape_of(model, name) == wanted


def test_tables_in_tables_have_a_shape() -> None:
    shape = shape_of(Published, "names")
    assert shape.kind is Kind.GROUPS
    assert shape.model is Named


TEXT = st.text(max_size=40) | st.sampled_from(
    ["", " ", "443", "-1", "1e9", "9" * 40, "fd00::/64", "2027-01-01T10:00", "2027-01-01T10:00+99:00",
     "0001-01-01"]
)  # fmt: skip
NAMES = sorted(
    {f"{part.root}.{one.name}".lstrip(".") for page in SECTIONS for part in page.parts for one in part.fields}
    | {one.name for table in TABLES for part in table.parts for one in part.fields}
    | {"names.count", "names.0.hosts", "names.0.targets", "domains.kept", "more", "drop", "of"}
)


@given(
    posted=st.dictionaries(st.sampled_from(NAMES), st.lists(TEXT, min_size=1, max_size=4), max_size=12),
    where=st.sampled_from([*SECTIONS, *TABLES]),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_that_is_typed_breaks_a_form(posted: dict[str, list[str]], where: Any) -> None:
    """It is read, its problems are found, and the form is shown again."""
    if isinstance(where, type(NETWORK)):
        parts, roots, config = where.parts, dict(where.roots), RICH
    else:
        index = len(at(RICH, where.path, []))
        parts, roots = where.parts, {"": Root((*where.path, index), where.model)}
        config = replaced(RICH, (*where.path, index), dict(where.fresh))
    before = token(config)
    form = Form(parts, roots, config, RICH, "Europe/Vienna", suggested={"@ports": ["lan0"], "@zones": []})
    typed = form.typed(MultiDict(posted))
    assert token(config) == before, "what was there is not touched"
    problems = typed.ours(problems_of(typed.config))
    shown = typed.shown(problems)
    errors = [one for part in shown for p in (part, *part.more) for one in p.fields if one.wrong]
    assert bool(problems) <= bool(errors or typed.unplaced(problems)), "each problem is said somewhere"
    focused = [one for part in shown for p in (part, *part.more) for one in p.fields if is_focused(one)]
    assert len(focused) == bool(errors), "the first with an error, and no other"


def is_focused(one: Any) -> bool:
    inside = any(is_focused(inner) for group in one.groups for inner in group)
    return bool(one.focus) or any(row.focus for row in one.rows) or inside


@given(
    st.recursive(
        st.integers() | st.text(max_size=5), lambda inner: st.dictionaries(st.sampled_from("abc"), inner)
    )
)
def test_replaced_leaves_the_rest(value: Any) -> None:
    before = {"a": {"b": [1, 2]}, "c": value}
    after = replaced(before, steps("a.d"), 7)
    assert after == {"a": {"b": [1, 2], "d": 7}, "c": value}
    assert before == {"a": {"b": [1, 2]}, "c": value}
    assert replaced(after, steps("a.d"), None) == before
