"""A list of a million names: read, compiled, mapped, looked into. ``python -m tests.bench.names [NAMES]``

Each step in a process of its own, so that its memory is its own; times are of the processor. Bars: 5 s and
150 MB for the list, 5 µs for a look-up.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from appliance.policy.lists import ListParser
from appliance.policy.name_table import KEY, TableBuilder
from appliance.session.tables import Tables

LOOK_UPS = 200_000
_CHUNK = 65_536


def names(count: int) -> list[str]:
    """Names as lists have them: mostly two or three labels, few of one owner."""
    draw = random.Random(1)
    signs = "abcdefghijklmnopqrstuvwxyz0123456789-"
    words = ["".join(draw.choices(signs, k=draw.randint(3, 12))).strip("-") or "x" for _ in range(50_000)]
    ends = ["com", "net", "org", "co.uk", "example"]
    return [
        f"{draw.choice(words)}{number}.{draw.choice(words)}.{draw.choice(ends)}" for number in range(count)
    ]


def _compile(folder: Path, form: str) -> None:
    with (folder / form).open("rb") as stream, (folder / f"{form}.table").open("wb") as out:
        builder = TableBuilder(os.urandom(KEY))
        parser = ListParser(form, 1 << 30, builder.add)
        while data := stream.read(_CHUNK):
            parser.feed(data)
        parser.finish()
        builder.write(out)


def _look_up(folder: Path, form: str) -> None:
    tables = Tables(folder)
    tables.refresh(0.0)
    table = tables[form]
    asked = names(LOOK_UPS // 2)
    asked += [f"www.{name}" for name in asked[: LOOK_UPS // 4]]
    asked += [f"cdn{number}.news.site.example" for number in range(LOOK_UPS - len(asked))]
    random.Random(2).shuffle(asked)
    find = table.find
    started = time.process_time()
    for name in asked:
        find(name)
    spent = time.process_time() - started
    print(f"{form:8} look-up {spent / len(asked) * 1e6:6.2f} µs, {table.hits:,} of {len(asked):,} found")


def _measured(step: Callable[[Path, str], None], folder: Path, form: str, what: str) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before, started = _peak(), time.process_time()
    step(folder, form)
    if what:
        print(f"{form:8} {what} {time.process_time() - started:6.2f} s, {_peak() - before:.0f} MB")


def _peak() -> float:
    """The most memory that this process had, in MB."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1_000


def main() -> None:
    """Write the lists, then each step."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    lines = {"hosts": "0.0.0.0 {}\n", "domains": "{}\n", "adblock": "||{}^\n", "rpz": "*.{} CNAME .\n"}
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for form, line in lines.items():
            with (folder / form).open("w") as out:
                out.writelines(line.format(one) for one in names(count))
        print(f"{count:,} names")
        for form in lines:
            for step, what in ((_compile, "compile"), (_look_up, "")):
                process = spawn.Process(target=_measured, args=(step, folder, form, what))
                process.start()
                process.join()


if __name__ == "__main__":
    main()
