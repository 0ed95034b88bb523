"""DNS64 (RFC 6147): AAAA answers made of A answers, in front of a plain recursive resolver.

*Query*: what a client asked. *Upstream*: the resolver behind us, which recurses and validates.
*Plan*: what has to be done for a query. *Job*: one plan on its way, with everyone who waits for it.
*Cap*: the most seconds a synthesised record may live, from the negative AAAA answer.
*Group*: clients that get the same answers. *Patched*: made by changing an A answer on the wire.
*Excluded*: an AAAA, A, client or name that the configuration keeps out of synthesis.
*Miss*: a plain question that is not kept, on the short way.
"""

from appliance.engine import prefer_compiled

prefer_compiled(__name__, __path__)
