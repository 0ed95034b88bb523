"""Users and groups in a configuration's text: what is changed, and that nothing else is."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import Config, dump, parse
from appliance.config.edit import remove_entry, set_entry

TEXT = """\
# The box of the school.
[lan]
prefix = "generated"   # kept

[[group]]
name = "staff"  # teachers

[[group]]
name = "pupils"

# Ann, room 12
[[user]]
name = "ann"
groups = [ # of two lines
  "staff",  # ]
]

[[ user ]]   # Ben
"name" = \'ben\'
groups = ["pupils"]
[proxy] # the data path
workers = 2

[[published]]
name = "web"
port = 80
targets = [
  "[2001:db8::80]:80",
]
"""


def test_a_user_is_added_behind_the_last_one() -> None:
    text = set_entry(TEXT, "user", "eve", {"groups": ["staff", "pupils"]})
    assert text == TEXT.replace(
        'groups = ["pupils"]\n',
        'groups = ["pupils"]\n\n[[user]]\nname = "eve"\ngroups = ["staff", "pupils"]\n',
    )
    parse(text)


def test_only_the_value_is_changed() -> None:
    text = set_entry(TEXT, "user", "ann", {"groups": ["pupils"]})
    old = 'groups = [ # of two lines\n  "staff",  # ]\n]\n'
    assert text == TEXT.replace(old, 'groups = ["pupils"]\n')
    text = set_entry(TEXT, "user", "ben", {"password": "x"})
    assert text == TEXT.replace('groups = ["pupils"]\n', 'groups = ["pupils"]\npassword = "x"\n')
    assert set_entry(text, "user", "ben", {"password": "y"}) == text.replace('"x"', '"y"')


def test_a_user_is_removed_and_what_is_around_it_stays() -> None:
    text = remove_entry(TEXT, "user", "ben")
    assert text == TEXT.replace('[[ user ]]   # Ben\n"name" = \'ben\'\ngroups = ["pupils"]\n', "")
    text = remove_entry(text, "user", "ann")
    assert "user" not in tomllib.loads(text)
    assert "# Ann, room 12" in text
    assert remove_entry(TEXT, "user", "nobody") == TEXT


@pytest.mark.parametrize("text", ["", "# nothing\n", "[wan]\nmode = 'dhcp'", dump(Config())])
def test_the_first_of_all(text: str) -> None:
    done = set_entry(set_entry(text, "group", "g", {}), "user", "u", {"groups": ["g"]})
    config = parse(done)
    assert [user.name for user in config.user] == ["u"]
    assert parse(remove_entry(remove_entry(done, "user", "u"), "group", "g")) == parse(text)
    assert set(text.splitlines()) - set(done.splitlines()) <= {"user = []", "group = []"}


def test_lists_in_one_statement_become_tables() -> None:
    text = 'user = [{ name = "a", groups = ["g"] }]\ngroup = [\n  { name = "g" },\n]\n[wan]\nmode = "dhcp"\n'
    config = parse(set_entry(text, "user", "b", {"groups": ["g"]}))
    assert [user.name for user in config.user] == ["a", "b"]
    assert parse(remove_entry(text, "user", "a")).user == ()


NAMES = st.sampled_from(["a", "b", "c", "d"])
NOISE = st.sampled_from(
    [
        "", "\n", "# [[user]]\n", "[wan]\nmode = 'dhcp'\n", "[dns]\nexclude_names = [\n'x.example', # ]\n]\n",
        '[console]\n"port" = 444 # "\n', "[[published]]\nname='w'\nport=1\ntargets=['[2001:db8::1]:1']\n",
        "[system]\nhostname = '''\nbox'''\n", '[explicit]\npseudonym = """\\\n  box"""\n',
    ]
)  # fmt: skip


@given(st.lists(st.tuples(NAMES, NOISE), unique_by=(lambda x: x[0], lambda x: x[1])), NAMES, st.booleans())
def test_any_order_of_tables(tables: list[tuple[str, str]], name: str, ends: bool) -> None:
    text = "[[group]]\nname = 'g'\n"
    for user, noise in tables:
        text += f"{noise}  [[user]] # {user}\nname='{user}'\ngroups = ['g']\n"
    text = text if ends else text[:-1]

    def rest(text: str) -> dict[str, Any]:
        return {key: value for key, value in tomllib.loads(text).items() if key != "user"}

    before = tomllib.loads(text).get("user", [])
    others = [user for user in before if user["name"] != name]
    changed = set_entry(text, "user", name, {"groups": ["g", "h"]})
    assert rest(changed) == rest(text)
    after = tomllib.loads(changed)["user"]
    assert {"name": name, "groups": ["g", "h"]} in after
    assert [user for user in after if user["name"] != name] == others
    removed = remove_entry(text, "user", name)
    assert rest(removed) == rest(text)
    assert tomllib.loads(removed).get("user", []) == others
    assert text.count("#") - removed.count("#") == len(before) - len(others)
