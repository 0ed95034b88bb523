"""Session records: what is known of a conversation while it lives and in the log afterwards."""

from appliance.engine import prefer_compiled

prefer_compiled(__name__, __path__)
