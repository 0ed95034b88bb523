"""`isthmus complete LINE WORD`: what the shell offers after Tab; nothing where nothing is known."""

from __future__ import annotations

import shlex

from appliance import monitor_cli
from appliance.config.assign import completions
from appliance.config.help import children, help_of
from appliance.config.paths import PathError, Plain
from appliance.control.client import ControlClient, ControlError

# Commands that take a path first.
_WITH_PATH = frozenset({"show", "set", "unset", "add", "remove", "move"})
_WITH_REVISION = frozenset({"diff", "rollback"})
_BOOLEANS = ("true", "false")


def offers(line: str, commands: list[str], client: ControlClient, author: str) -> list[str]:
    """Whole words that the last word of ``line`` (up to the cursor) may become."""
    words = _words(line)
    done, word = [one for one in words[1:-1] if not one.startswith("-")], words[-1]
    if not done:
        found = commands
    elif done[0] in _WITH_PATH:
        found = _of_path(done, word, client, author)
    elif done[0] in _WITH_REVISION and len(done) == 1:
        found = _revisions(client)
    elif done[0] in monitor_cli.WORDS and len(done) == 1:
        found = list(monitor_cli.WORDS[done[0]])
    elif done[0] in ("user", "group") and len(done) == 1:
        found = ["add", "remove", "list", *(("passwd", "groups") if done[0] == "user" else ())]
    else:
        found = []
    return [one for one in found if one.startswith(word)]


def _words(line: str) -> list[str]:
    """The line's words; the last one is what is being written, "" after a space."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words = []
    try:
        words = list(lexer)
    except ValueError:  # a quote that is still open
        words = line.split()
    return words if words and not line.endswith((" ", "\t")) else [*words, ""]


def _of_path(done: list[str], word: str, client: ControlClient, author: str) -> list[str]:
    command, *paths = done
    try:
        plain: Plain = client.candidate(author)["config"]
    except ControlError:
        plain = {}
    if not paths:
        return completions(plain, word)
    try:
        setting = help_of(paths[0])
    except PathError:
        return []
    if command == "set":
        return list(_BOOLEANS) if setting.kind == "bool" else list(setting.choices)
    if command == "add" and setting.kind == "table":
        key, equals, _text = word.partition("=")
        one = {one.path.rpartition(".")[2]: one for one in children(setting.path)}
        if not equals:
            return [f"{name}=" for name, field in one.items() if field.kind != "table"]
        if key in one:
            values = _BOOLEANS if one[key].kind == "bool" else one[key].choices
            return [f"{key}={value}" for value in values]
    return []


def _revisions(client: ControlClient) -> list[str]:
    try:
        return [str(one["number"]) for one in client.revisions(50)[0]]
    except ControlError:
        return []


def for_bash(found: list[str], line: str, word: str) -> list[str]:
    """The offers as bash wants them: from where it believes the word to begin, at a ":" or "=", say."""
    whole = _words(line)[-1]
    cut = len(whole) - len(word) if word and whole.endswith(word) else len(whole) if not word else 0
    return [one[cut:] for one in found]
