"""Who may reach what: pure functions that the data path, the tests and the "why?" box call alike.

A *destination* is an address of 4 or 16 octets. Its *readings* are the addresses that a packet to it may end
up at: itself, and every IPv4 address that it embeds. What is *forbidden* is refused whatever the rules say.
"""
