"""The box's network: what it should be (plan), what it is (observe), and the way there (apply).

A plan is a printable list of steps. Pure parts: plan, firewall, networkd, unbound. I/O: observe, apply.
"""
