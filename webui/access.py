"""The role that each page of the console takes. Control looks at each verb again."""

from __future__ import annotations

from appliance.config.roles import Role

# Parts of the console that are for admins, whatever the method.
_ADMINS = frozenset({"admins", "tokens", "audit", "backup", "updates"})
# A capture has what everybody on the wire says.
_ADMINS_PAGES = frozenset({"diagnostics.start", "diagnostics.stop", "diagnostics.download"})
# What is sent there changes more than settings.
_ADMINS_CHANGE = frozenset({"certificates"})
# What everybody does with the own account, or only looks by.
_OWN = frozenset({"me", "account"})


def least_of(endpoint: str, method: str) -> Role:
    """The least role for a request."""
    part = endpoint.partition(".")[0]
    if part in _OWN:
        return Role.VIEWER
    changes = method not in ("GET", "HEAD", "OPTIONS")
    if part in _ADMINS or endpoint in _ADMINS_PAGES or (changes and part in _ADMINS_CHANGE):
        return Role.ADMIN
    return Role.OPERATOR if changes else Role.VIEWER
