"""docs/configuration.md, from the schema: `make docs` writes it, a test says when it is old."""

from __future__ import annotations

import json
import sys
from typing import Any

from appliance.config.help import Help, children, every

HEAD = """\
# The configuration

<!-- Made from the schema by `make docs`: change the comments beside the fields, not this file. -->

One TOML file holds all that the box does: `/var/lib/isthmus/config.toml`. What is not set has its default.
It is changed in three ways, each of which makes a revision, with who, when and why:

- in the console, or with `isthmus set`, `add`, `remove` and then `isthmus commit`: the file is written anew,
  without comments;
- with `isthmus user` and `isthmus group`: comments stay;
- by hand in the file, and `systemctl reload isthmus-control`. `isthmus check FILE` says beforehand what is
  wrong.

A commit that can part you from the box (the ports and addresses of LAN and WAN, the console's port) has to
be confirmed within 90 seconds: `isthmus confirm`, or in the console. Else it is rolled back, also where the
power goes or control dies meanwhile. `isthmus history` lists the revisions, `isthmus rollback REVISION` goes
back to one.

A table in double brackets is a list: it may be there several times, and its entries go by their name:
`isthmus set rule.no-ads.action deny`.

"""


def render() -> str:
    """The whole document."""
    out = [
        HEAD,
        "## Settings of the file itself\n\n",
        _rows([one for one in children() if one.kind != "table"]),
    ]
    for table in every():
        if table.kind != "table":
            continue
        name = f"[[{table.path}]]" if table.many else f"[{table.path}]"
        out.append(f"## `{name}`\n\n{table.text}\n")
        if table.many and table.most is not None:
            out.append(f"At most {table.most:,} entries.\n")
        if table.many and table.default:
            shown = "; ".join(_entry(one) for one in table.default)
            out.append(f"Default: {shown}.\n")
        out.append("\n" + _rows([one for one in children(table.path) if one.kind != "table"]))
    return "".join(out).rstrip() + "\n"


def _rows(settings: list[Help]) -> str:
    lines = ["| setting | type | default | |", "|---|---|---|---|"]
    for one in settings:
        name = one.path.rpartition(".")[2]
        lines.append(f"| `{name}` | {_type(one)} | {_default(one)} | {_cell(one.text)} |")
    return "\n".join(lines) + "\n\n"


def _type(setting: Help) -> str:
    if setting.kind == "choice":
        words = ", ".join(f"`{choice}`" for choice in setting.choices)
    elif setting.kind == "number" and setting.maximum is not None:
        words = f"number, {setting.minimum:,} to {setting.maximum:,}"
    else:
        words = {"bool": "true or false", "moment": "date and time"}.get(setting.kind, setting.kind)
        if setting.choices:
            words = ", ".join([*(f"`{choice}`" for choice in setting.choices), words])
    return f"list of: {words}" if setting.many else words


def _default(setting: Help) -> str:
    if setting.required:
        return "**required**"
    if setting.default is None or (setting.many and not setting.default):
        return ""
    return f"`{_value(setting.default)}`"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _entry(entry: dict[str, Any]) -> str:
    settings = (f"{key} = {_value(one)}" for key, one in entry.items() if one not in ([], "", False))
    return f"`{', '.join(settings)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*.", "\\*.").replace("<", "&lt;")


if __name__ == "__main__":
    sys.stdout.write(render())
