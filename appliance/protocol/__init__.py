"""Sans-IO protocol code: bytes in, values out. No socket, loop, clock or log in here."""
