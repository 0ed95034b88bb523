"""`isthmus complete LINE WORD`: what the shell offers after Tab; nothing where nothing is known.

Commands, verbs, options and choices are the parser's own, so that a new one needs nothing here. What the box
knows the names of is asked of it.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from appliance.config.assign import completions
from appliance.config.help import children, help_of
from appliance.config.paths import PathError, Plain
from appliance.control.client import ControlClient, ControlError

# Commands that take a path first.
_WITH_PATH = frozenset({"show", "set", "unset", "add", "remove", "move"})
_BOOLEANS = ("true", "false")
# Of what is fetched for one Tab.
_MOST = 50


def _of_table(table: str) -> Callable[[ControlClient], Iterable[str]]:
    return lambda client: [str(one["name"]) for one in client.active()["config"].get(table, ())]


# What a word of a command may be, by the command and the word's name (or the option's).
_NAMES: dict[tuple[str, str], Callable[[ControlClient], Iterable[str]]] = {
    ("diff", "revision"): lambda client: _revisions(client),
    ("rollback", "revision"): lambda client: _revisions(client),
    ("show", "--revision"): lambda client: _revisions(client),
    ("history", "--before"): lambda client: _revisions(client),
    ("user", "name"): _of_table("user"),
    ("user", "--group"): _of_table("group"),
    ("group", "name"): _of_table("group"),
    ("admin", "name"): lambda client: [one["name"] for one in client.admins()],
    ("token", "name"): lambda client: [one["name"] for one in client.tokens()],
    ("audit", "--who"): lambda client: [one["name"] for one in client.admins()],
    ("sessions", "id"): lambda client: [one["id"] for one in client.sessions(_MOST)[0]],
    ("requests", "id"): lambda client: [one["id"] for one in client.access_requests()],
    ("limits", "--reset"): _of_table("limit"),
    ("capture", "device"): lambda client: [port["name"] for port in client.status()["ports"]],
    ("log", "--rule"): _of_table("rule"),
    ("log", "--user"): _of_table("user"),
    ("log", "--device"): _of_table("device"),
    ("log", "--service"): _of_table("published"),
    ("explain", "--user"): _of_table("user"),
}
# Names that are new: none that there is will do.
_NEW = frozenset({("user", "add"), ("group", "add"), ("admin", "add"), ("token", "add")})


@dataclass
class _Place:
    """Where the cursor is: the parser there, the commands that lead to it, and the words since."""

    parser: argparse.ArgumentParser
    commands: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    option: argparse.Action | None = None  # which waits for its value

    def verbs(self) -> dict[str, argparse.ArgumentParser]:
        """What can follow as a command; those without help are not for people."""
        for action in self.parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                told = {one.dest for one in action._choices_actions}
                return {name: one for name, one in action.choices.items() if name in told}
        return {}

    def options(self) -> dict[str, argparse.Action]:
        """By their names."""
        return {name: one for one in self.parser._actions for name in one.option_strings}

    def positional(self) -> argparse.Action | None:
        """What the word at the cursor is for; None where none is wanted."""
        found = [
            one
            for one in self.parser._actions
            if not one.option_strings and not isinstance(one, argparse._SubParsersAction)
        ]
        if len(self.words) < len(found):
            return found[len(self.words)]
        return found[-1] if found and found[-1].nargs in ("*", "+") else None


def _at(parser: argparse.ArgumentParser, done: list[str]) -> _Place:
    place = _Place(parser)
    for word in done:
        if place.option is not None:
            place.option = None
        elif word.startswith("-") and len(word) > 1:
            action = place.options().get(word)
            place.option = action if action is not None and action.nargs != 0 else None
        elif not place.words and word in (verbs := place.verbs()):
            place.parser = verbs[word]
            place.commands.append(word)
        else:
            place.words.append(word)
    return place


def offers(line: str, parser: argparse.ArgumentParser, client: ControlClient, author: str) -> list[str]:
    """Whole words that the last word of ``line`` (up to the cursor) may become."""
    words = _words(line)
    place, word = _at(parser, words[1:-1]), words[-1]
    command = place.commands[0] if place.commands else ""
    if place.option is not None:
        found = _of_action(place, place.option, client)
    elif word.startswith("-"):
        found = sorted(place.options())
    elif verbs := place.verbs():
        found = sorted(verbs)
    elif command in _WITH_PATH:
        found = _of_path([command, *place.words], word, client, author)
    else:
        action = place.positional()
        found = _of_action(place, action, client) if action is not None else []
    return [one for one in found if one.startswith(word)]


def _of_action(place: _Place, action: argparse.Action, client: ControlClient) -> list[str]:
    """What an option's value, or a word, may be."""
    if action.choices is not None:
        return [str(one) for one in action.choices]
    if tuple(place.commands[:2]) in _NEW and not action.option_strings:
        return []
    name = action.option_strings[-1] if action.option_strings else action.dest
    known = _NAMES.get((place.commands[0] if place.commands else "", name))
    found: list[str] = []
    if known is not None:
        with contextlib.suppress(ControlError):  # the box does not answer, or not this user
            found = list(known(client))
    return found


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
    return [str(one["number"]) for one in client.revisions(_MOST)[0]]


def for_bash(found: list[str], line: str, word: str) -> list[str]:
    """The offers as bash wants them: from where it believes the word to begin, at a ":" or "=", say."""
    whole = _words(line)[-1]
    cut = len(whole) - len(word) if word and whole.endswith(word) else len(whole) if not word else 0
    return [one[cut:] for one in found]
