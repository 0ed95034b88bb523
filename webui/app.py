"""create_app: the console over a backend, put together from its pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask

from appliance.control.client import ControlClient
from webui.api.blueprint import blueprint
from webui.backend import Backend
from webui.desk import Desk
from webui.figures import FILTERS
from webui.layouts.lans import ROUTES, SEGMENTS
from webui.layouts.network import EXPLICIT, LISTENERS, NETWORK, PUBLISHED, SYSTEM, TRAFFIC, TRANSLATION
from webui.layouts.policy import DEFAULTS, DEFAULTS_ROOTS, DEVICES, LIMITS, LISTS, RULES, SCHEDULES
from webui.leaving import Leavings
from webui.links import link_of
from webui.readable import readable
from webui.security import MAX_REQUEST, guard
from webui.views import account, admins, changes, dashboard, me, metrics, requests, sections
from webui.views.backup import Backup
from webui.views.certificates import Certificates
from webui.views.diagnostics import DiagnosticsPage
from webui.views.entries import Entries
from webui.views.first import First
from webui.views.policy import around_rules, hits
from webui.views.sections import Page
from webui.views.updates import Updates
from webui.views.users import Users
from webui.words import into_templates, later

POLICY_DEFAULT = Page(
    key="policy_default", url="/policy/default", area="policy", title=later("Default and log"),
    about=later("What holds where no rule matches, and how much is written down."),
    parts=DEFAULTS, roots=DEFAULTS_ROOTS,
)  # fmt: skip
# The tabs of each area: (key, address, title).
TABS = {
    "policy": [(t.key, t.url, t.title) for t in (RULES, LISTS, SCHEDULES, LIMITS)]
    + [
        (POLICY_DEFAULT.key, POLICY_DEFAULT.url, POLICY_DEFAULT.title),
        ("requests", "/policy/requests", later("Access requests")),
    ],
    "users": [
        ("users", "/users", later("Proxy users")),
        ("groups", "/users/groups", later("Groups")),
        (DEVICES.key, DEVICES.url, DEVICES.title),
    ],
    "network": [(NETWORK.key, NETWORK.url, later("Ports and addresses"))]
    + [(t.key, t.url, t.title) for t in (SEGMENTS, ROUTES, TRANSLATION, PUBLISHED, LISTENERS)],
    "system": [
        (SYSTEM.key, SYSTEM.url, later("The box")),
        (TRAFFIC.key, TRAFFIC.url, TRAFFIC.title),
        ("certificates", "/system/certificates", later("Certificates")),
        ("admins", "/system/admins", later("Admins")),
        ("tokens", "/system/tokens", later("API tokens")),
        ("audit", "/system/audit", later("Audit log")),
        ("history", "/history", later("History")),
        ("updates", "/system/updates", later("Updates")),
        ("backup", "/system/backup", later("Backup and reset")),
        ("diagnostics", "/system/diagnostics", later("Diagnostics")),
    ],
}


def _health(desk: Desk) -> dict[str, list[dict[str, Any]]]:
    """The servers of each published service in force, and whether they answer."""
    return {service["name"]: service["targets"] for service in desk.status()["published"]}


def create_app(
    backend: Backend, key: bytes, authority: Path | None = None, api: ControlClient | None = None
) -> Flask:
    """The console over a backend; ``key`` signs the session cookie, ``authority`` is the box's, PEM.

    ``api``: what the HTTP API asks; without one there is none.
    """
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=key,
        SESSION_COOKIE_NAME="__Host-isthmus",
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        MAX_CONTENT_LENGTH=MAX_REQUEST,
        MAX_FORM_MEMORY_SIZE=MAX_REQUEST,
    )
    into_templates(app)
    app.jinja_env.filters.update(FILTERS, readable=readable)
    app.jinja_env.globals.update(tabs=TABS, link_of=link_of)
    guard(app, backend)
    desk = Desk(backend)
    app.register_blueprint(account.blueprint(backend, authority))
    app.register_blueprint(metrics.blueprint(backend))
    app.register_blueprint(dashboard.blueprint(backend, desk))
    app.register_blueprint(requests.blueprint(desk))
    app.register_blueprint(First(desk).blueprint())
    app.register_blueprint(changes.blueprint(desk, Leavings()))
    for page in (NETWORK, EXPLICIT, SYSTEM, TRAFFIC, POLICY_DEFAULT):
        app.register_blueprint(sections.blueprint(page, desk))
    app.register_blueprint(Entries(RULES, desk, lambda: around_rules(desk)).blueprint())
    app.register_blueprint(Entries(PUBLISHED, desk, lambda: {"health": _health(desk)}).blueprint())
    app.register_blueprint(Entries(LISTS, desk, lambda: {"hits": hits(desk, "list")}).blueprint())
    for table in (SCHEDULES, LIMITS, DEVICES, LISTENERS):
        app.register_blueprint(Entries(table, desk).blueprint())
    ports = NETWORK.suggested["@ports"]
    for table in (SEGMENTS, ROUTES, TRANSLATION):
        entries = Entries(table, desk, suggested=lambda: {"@ports": ports(desk)})
        app.register_blueprint(entries.blueprint())
    app.register_blueprint(Users(desk).blueprint())
    app.register_blueprint(Certificates(desk).blueprint())
    app.register_blueprint(Updates(desk).blueprint())
    app.register_blueprint(Backup(desk).blueprint())
    app.register_blueprint(DiagnosticsPage(desk).blueprint())
    app.register_blueprint(me.blueprint(desk))
    for part in (admins.admins, admins.tokens, admins.audit):
        app.register_blueprint(part(desk))
    if api is not None:
        app.register_blueprint(blueprint(api))
    return app
