"""The configuration's edge: all problems at once, each with its path; what is written is read back equal."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import Config, dump, load, parse
from appliance.config.codec import write
from appliance.errors import ConfigError

BAD = """\
typo = 3
[wan]
interface = "eth/0"
[lan]
prefix = "fd00::/48"
[dns]
upstreams = ["192.31.196.1", "300.1.1.1"]
[proxy.timers]
udp = 3
[[translation]]
prefix = "64:ff9b::/95"
"""


def problems_of(text: str) -> dict[str, str]:
    """Path to message."""
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_the_empty_file_is_the_default() -> None:
    config = parse("")
    assert str(config.translation[0].prefix) == "64:ff9b::/96"
    assert parse(dump(config)) == config


def test_every_mistake_is_listed_by_its_path() -> None:
    found = problems_of(BAD)
    assert set(found) == {
        "typo",
        "wan.interface",
        "lan.prefix",
        "dns.upstreams[1]",
        "proxy.timers.udp",
        "translation[0].prefix",
    }
    assert "300.1.1.1" in found["dns.upstreams[1]"]
    assert "/64" in found["lan.prefix"]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (
            "[[translation]]\nprefix='64:ff9b::/96'\n[[translation]]\nprefix='64:ff9b::/96'",
            "translation[1].prefix",
        ),
        ("[lan]\ninterface='a0'\n[wan]\ninterface='a0'", "lan.interface"),
        ("translation = []", "translation"),
        ("[[translation]]\nprefix='64:ff9b::/96'\nupstreams=['10.0.0.53']", "translation[0]"),
        ("schema_version = 2", "schema_version"),
        ("[wan]\nmode='static'", "wan"),
        ("[wan]\nmode='static'\naddress='192.0.2.2/24'\ngateway='198.51.100.1'", "wan"),
        ("[wan", "(file)"),
    ],
)
def test_contradictions(text: str, path: str) -> None:
    assert path in problems_of(text)


def test_absurd_nesting_is_refused_like_any_other_mistake() -> None:
    for text in ("a = " + "[" * 100_000, "a = " + "[" * 100_000 + "]" * 100_000):
        with pytest.raises(ConfigError, match="nested too deeply"):
            parse(text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for content in (None, b"\xff\xfe"):
        path = tmp_path / "config.toml"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert str(path) in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_list_of_problems(text: str) -> None:
    try:
        parse(text)
    except ConfigError as error:
        assert error.problems


DEEP = ".".join(["a"] * 17)


@pytest.mark.parametrize(
    "text",
    [
        f"{DEEP} = 1",
        f"[{DEEP}]",
        f"[[{DEEP}]]",
        f"x = {{ y = 1, {DEEP} = 1 }}",
        " . ".join(['"="'] * 17) + " = 1",
        ".".join(['"\\""'] * 17) + " = 1",
        ".".join(["'\"'"] * 17) + " = 1",
        f'x = """"a""""\n{DEEP} = 1',
        f"x = '''\n{DEEP}'''''\n{DEEP} = 1",
        f'x = """\\"""{DEEP}"""\n{DEEP} = 1',
    ],
)
def test_a_key_of_many_levels_is_refused_unread(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """tomllib's memory grows by the square of them: 400 KB of dots killed who read them."""
    monkeypatch.setattr("tomllib.loads", lambda text: pytest.fail("it was read"))
    with pytest.raises(ConfigError, match=r"\(line \d+\): a key has more than 16 levels: .* quotes\.$"):
        parse(text)


@pytest.mark.parametrize("quote", ['"', "'", '"""', "'''"])
def test_dots_in_strings_and_comments_are_no_key(quote: str) -> None:
    name = ".".join(["f"] * 32) + ".ip6.arpa"
    config = parse(f"[dns] # {DEEP}\nexclude_names = [{quote}{name}{quote}, {quote}x{quote}]\n")
    assert config.dns.exclude_names == (name, "x")


@pytest.mark.parametrize(
    "part", ["a", "a.", ".", '"', "'", '"""', "'''", '"""\\', '"\\', "[", "a ", "# ", "\n", '"."', "-= "]
)
def test_no_text_keeps_its_reader_busy(part: str) -> None:
    """A million octets: by the square of them it would take hours."""
    with contextlib.suppress(ConfigError):
        parse(part * (1_000_000 // len(part)))


USERS = "[[group]]\nname = 'staff'\n"


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("[[user]]\nname = 'ann'\ngroups = []", "user[0].groups", "user “ann” has no group: give at least"),
        ("[[user]]\nname = 'ann'", "user[0].groups", "user “ann” has no group: give at least one."),
        ("[[user]]\ngroups = ['staff']", "user[0].name", "is missing."),
        ("[[user]]\nname = 'ann'\ngroups = 'staff'", "user[0].groups", "is to be a list, in brackets."),
        ("[[user]]\nname = 'ann'\ngroups = [3]", "user[0].groups[0]", "is to be text, in quotes."),
        ("[[user]]\nname = 'a b'\ngroups = ['staff']", "user[0].name", "“a b” is no name"),
        ("[[user]]\nname = 'ann'\ngroups = ['x']", "user[0].groups", "is in group “x”, which there is not."),
        ("user = 'ann'", "user", "is to be a list"),
        ("user = ['ann']", "user[0]", "is to be a table of settings."),
        ("[explicit]\nlisteners = 3", "explicit.listeners", "is to be a list"),
        ("explicit = 3", "explicit", "is to be a table of settings."),
        ("[[explicit.listeners]]\nname = 'A b'\nport = 1", "explicit.listeners[0].name", "“A b” is no name"),
        ("[[explicit.listeners]]\nname = 'a'\nport = 0", "explicit.listeners[0].port", "is too small"),
        (
            "[[explicit.listeners]]\nname = 'a'\nport = 99999",
            "explicit.listeners[0].port",
            "is too large: at most 65535.",
        ),
        ("[[explicit.listeners]]\nname = 'a'\nport = '1'", "explicit.listeners[0].port", ""),
        (
            "[[explicit.listeners]]\nname = 'a'\nport = 3\nmode = 'ftp'",
            "explicit.listeners[0].mode",
            "is to be 'http', 'socks' or 'auto'.",
        ),
        (
            "[[explicit.listeners]]\nname = 'a'\nport = 3\ntls = 'perhaps'",
            "explicit.listeners[0].tls",
            "is to be true or false.",
        ),
        (
            "[[explicit.listeners]]\nname = 'a'\nport = 3\naddress = '10.0.0.1'",
            "explicit.listeners[0].address",
            "IPv6",
        ),
        (
            "[[explicit.listeners]]\nname = 'a'\nport = 443",
            "explicit.listeners[0].port",
            "port 443 is taken already, by the console.",
        ),
        (
            "[[explicit.listeners]]\nname = 'a'\nport = 81\n[[explicit.listeners]]\nname = 'b'\nport = 81",
            "explicit.listeners[1].port",
            "port 81 is taken already, by listener “a”.",
        ),
        (
            "[[explicit.listeners]]\nname = 'a'\nport = 3\ntls = true\nauthentication = ['password']",
            "explicit.listeners[0].authentication",
            "there is no user yet",
        ),
        ("[explicit]\npseudonym = 'a b'", "explicit.pseudonym", "is no pseudonym"),
        ("[explicit]\nconnect_ports = [443, 0]", "explicit.connect_ports[1]", "is too small: at least 1."),
    ],
)  # fmt: skip
def test_what_a_person_reads(text: str, path: str, words: str) -> None:
    if "port = '1'" in text:
        assert parse(text).explicit.listeners[0].port == 1
        return
    with pytest.raises(ConfigError) as caught:
        parse(text if text.startswith(("user =", "explicit =")) else USERS + text)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert words in problem.message
    for raw in ("Tuple", "Input", "Field", "String should", "validation", "instance of"):
        assert raw not in str(problem)


@pytest.mark.parametrize(
    "password", ["hunter2", "$argon2id$v=19$m=9999999,t=3,p=1$AAAAAAAAAAAA$AAAAAAAAAAAAAAAA", "$2b$12$abc"]
)
def test_a_password_in_the_file_is_refused_and_not_repeated(password: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"{USERS}[[user]]\nname = 'ann'\ngroups = ['staff']\npassword = '{password}'")
    (problem,) = caught.value.problems
    assert problem.path == "user[0].password"
    assert password not in str(caught.value)
    assert "isthmus user passwd" in problem.hint


def test_what_is_written_says_the_same_in_fewer_words() -> None:
    text = """
[[translation]]
[[rule]]
name = "a"
action = "deny"
until = 2026-12-24T18:00:00Z
[[published]]
name = "b"
port = 80
targets = ["[fd00::1]:80"]
[[published]]
name = "d"
port = 443
route = "sni"
names = [{ hosts = ["a.example"], targets = ["[fd00::1]:443"] }]
[[schedule]]
name = "c"
"""
    config = parse(text)
    written = write(config)
    assert parse(written) == config
    assert '[[rule]]\nname = "a"\naction = "deny"\nuntil = "2026-12-24T18:00:00Z"\n' in written
    assert "enabled" not in written and written.count("[[published.names]]") == 1
    assert 'prefix = "64:ff9b::/96"' in written and "schema_version = 1" in written
    assert parse(write(Config())) == Config()
