"""The web console: unprivileged, Flask, everything it knows comes over the control socket."""
