"""Masking: no hash leaves, each comes back to the user it belongs to."""

from __future__ import annotations

from typing import Any

from appliance.config.masking import masked, unmasked

STORED: dict[str, Any] = {
    "user": [
        {"name": "ann", "groups": ["staff"], "password": "$argon2id$ann"},
        {"name": "bob", "groups": ["staff"]},
    ]
}


def test_no_hash_is_left_and_each_comes_back() -> None:
    out = masked(STORED)
    assert "argon2id" not in str(out) and out["user"][1] == STORED["user"][1]
    assert STORED["user"][0]["password"] == "$argon2id$ann"
    assert unmasked(out, [STORED]) == (STORED, [])


def test_a_user_is_renamed_with_its_password() -> None:
    out = masked(STORED)
    out["user"][0]["name"] = "anna"
    plain, problems = unmasked(out, [STORED])
    assert problems == []
    assert plain["user"][0] == {"name": "anna", "groups": ["staff"], "password": "$argon2id$ann"}


def test_the_first_that_knows_the_user_counts() -> None:
    newer = {"user": [{"name": "ann", "password": "$argon2id$newer"}]}
    assert unmasked(masked(STORED), [newer, STORED])[0]["user"][0]["password"] == "$argon2id$newer"
    assert unmasked(masked(STORED), [{}, STORED])[0] == STORED


def test_a_password_that_nobody_knows_is_a_problem() -> None:
    marked = {"user": [{"name": "eve", "password": "$kept$nobody"}]}
    plain, problems = unmasked(marked, [STORED])
    assert plain == marked
    assert [problem.path for problem in problems] == ["user[0].password"]
    assert "“nobody”" in problems[0].message and "isthmus user passwd eve" in problems[0].hint


def test_a_new_hash_passes_and_what_is_no_table_is_left_alone() -> None:
    for plain in ({"user": [{"name": "ann", "password": "$argon2id$new"}]}, {"user": 3}, {"user": [4]}, {}):
        assert unmasked(plain, [STORED]) == (plain, [])
    assert masked({"user": [4]}) == {"user": [4]}
