"""Coverage-guided fuzzing of the parsers by hand: ``python -m tests.fuzz TARGET [SECONDS]`` (make fuzz).

What it finds is written to build/fuzz/; turn every finding into a test beside the parser's others.
"""

from __future__ import annotations

import sys
from pathlib import Path

try:
    import atheris
except ModuleNotFoundError:
    sys.exit("atheris is not installed: make fuzz installs it (it is no part of make setup)")

with atheris.instrument_imports(include=["appliance.protocol"]):
    from tests.fuzz.targets import TARGETS


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{octet:02x}" for octet in word)


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz {'|'.join(TARGETS)} [SECONDS]")
    name, seconds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 600
    target = TARGETS[name]
    work = Path("build/fuzz") / name
    corpus = work / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = work / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    atheris.Setup(
        [
            f"tests.fuzz {name}",
            f"-max_total_time={seconds}",
            "-max_len=4096",
            "-timeout=5",
            "-rss_limit_mb=2048",
            f"-dict={words}",
            f"-artifact_prefix={work}/",
            str(corpus),
        ],
        target.run,
    )
    atheris.Fuzz()


main()
