"""Session records: what is known of a conversation while it lives and in the log afterwards."""
