"""The HTTP API, /api/v1: what the console can do, for programs.

A *route* is a method and a path, with its *handler*, the model of its query and of its body, and the *verb*
of control that it comes down to, which has the least role for it. The *table* has all routes: Flask's rules,
the OpenAPI document and docs/api.md are made from it. A *call* is one request that was let in; an *answer* is
what the handler gives back. What goes wrong is a *problem* (RFC 9457).
"""
