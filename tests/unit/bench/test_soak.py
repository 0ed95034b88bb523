"""What a soak calls flat."""

from tests.bench.soak import FLOW_LIFETIME, Sample, judge

SETTLED = FLOW_LIFETIME * 1.25


def samples(count: int, memory: float = 0.0, descriptors: float = 0.0) -> list[Sample]:
    """So many samples, ten seconds apart, that grow by so much each once flows expire; steeply before."""
    found = []
    for number in range(count):
        moment = number * 10.0
        grown = max(0.0, moment - SETTLED) / 10
        ramp = min(1.0, moment / FLOW_LIFETIME)
        held = Sample(
            moment, int(ramp * 50e6 + grown * memory), int(ramp * 7000 + grown * descriptors), number * 100
        )
        found.append(held)
    return found


def test_the_climb_before_flows_expire_is_no_growth() -> None:
    judgement = judge(samples(60))
    assert judgement.problem == ""
    assert "memory 50.0 → 50.0 MB" in judgement.text
    assert "descriptors 7,000.0 → 7,000.0" in judgement.text


def test_a_leak_of_memory_is_found() -> None:
    assert judge(samples(60, memory=200_000)).problem == "soak: memory grew by 12%"


def test_a_leak_of_descriptors_is_found() -> None:
    assert judge(samples(60, descriptors=40)).problem == "soak: descriptors grew by 16%"


def test_a_short_soak_is_not_judged() -> None:
    assert judge(samples(16)).problem == "soak: needs SOAK=219 or more"
