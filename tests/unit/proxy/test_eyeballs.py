"""The order of attempts, and which failure is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Failure
from appliance.proxy.eyeballs import MOST_TELLING_FIRST, Candidates, Route, most_telling

addresses = st.integers(0, 12).map(lambda n: bytes(15) + bytes([n])) | st.integers(0, 12).map(
    lambda n: bytes(3) + bytes([n])
)
routes = addresses.map(lambda address: Route(address, address.hex()))


def _is_six(route: Route) -> bool:
    return len(route.address) == 16


@given(st.lists(routes))
def test_families_by_turns_ipv6_first_each_once(given_routes: list[Route]) -> None:
    candidates = Candidates()
    for route in given_routes:
        candidates.add(route)
    unique = list(dict.fromkeys(given_routes))
    taken = [candidates.take() for _ in range(len(candidates))]
    assert sorted(taken) == sorted(unique)
    for six in (True, False):  # each family in the order in which it came
        assert [r for r in taken if _is_six(r) is six] == [r for r in unique if _is_six(r) is six]
    both = 2 * min(sum(map(_is_six, unique)), sum(not _is_six(route) for route in unique))
    assert [_is_six(route) for route in taken[:both]] == [True, False] * (both // 2)


@given(st.lists(routes), st.lists(routes))
def test_what_comes_later_fits_in(first: list[Route], second: list[Route]) -> None:
    candidates = Candidates()
    for route in first:
        candidates.add(route)
    last = candidates.take() if candidates else None
    for route in second:
        candidates.add(route)
    assert last is None or last not in [candidates.take() for _ in range(len(candidates))]


@given(st.lists(routes, min_size=1))
def test_a_family_without_a_route_comes_last(given_routes: list[Route]) -> None:
    candidates = Candidates()
    for route in given_routes:
        candidates.add(route)
    taken = [_is_six(candidates.take(six_last=True)) for _ in range(len(candidates))]
    assert taken == sorted(taken)


def test_the_same_address_by_another_way_is_another_attempt() -> None:
    candidates = Candidates()
    for interface in (b"a", b"b", b"a"):
        candidates.add(Route(b"\x0a\0\0\1", "10.0.0.1", interface))
    assert len(candidates) == 2


@pytest.mark.parametrize(
    ("failures", "told"),
    [
        ({Failure.TIMEOUT, Failure.REFUSED}, Failure.REFUSED),
        ({Failure.TIMEOUT, Failure.HOST_UNREACHABLE}, Failure.HOST_UNREACHABLE),
        ({Failure.HOST_UNREACHABLE, Failure.REFUSED, Failure.NO_ROUTE}, Failure.REFUSED),
        ({Failure.NO_ROUTE, Failure.TIMEOUT}, Failure.TIMEOUT),
        ({Failure.NO_ROUTE, Failure.NAME_FAILED}, Failure.NAME_FAILED),
        ({Failure.NO_ROUTE, Failure.NO_NAME}, Failure.NO_ROUTE),
        ({Failure.DENIED, Failure.NO_NAME}, Failure.DENIED),
        ({Failure.DENIED, Failure.TIMEOUT}, Failure.TIMEOUT),
        ({Failure.NO_NAME, Failure.NAME_FAILED}, Failure.NAME_FAILED),
        ({Failure.REFUSED, Failure.DESCRIPTORS}, Failure.DESCRIPTORS),
        (set(), Failure.NO_NAME),
    ],
)
def test_the_most_telling_failure(failures: set[Failure], told: Failure) -> None:
    assert most_telling(failures) is told


def test_every_failure_of_a_dial_has_its_place() -> None:
    never = {
        Failure.LIMIT, Failure.RATE, Failure.SESSIONS, Failure.HALF_OPEN,
        Failure.CONNECTIONS, Failure.TOO_BIG, Failure.LOOP,
    }  # fmt: skip
    assert set(MOST_TELLING_FIRST) == set(Failure) - never
