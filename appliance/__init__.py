"""Isthmus: an IPv6 proxy appliance.

Glossary (one noun, one meaning):

*prefix*    an IPv6 translation prefix (RFC 6052) that stands for an IPv4 network
*client*    the host on the LAN whose session it is
*origin*    the server the client wants, on the WAN
*leg*       one of the two halves of a session: client's leg, origin's leg
*session*   a conversation carried from one leg to the other
*dial*      opening the origin's leg
*relay*     moving bytes between the legs
*verdict*   what the policy decided for a session
*worker*    one process of the proxy that owns a share of the clients
*supervisor*  the process that holds the workers' listeners and replaces dead workers
*control*   the one privileged daemon; it alone changes the network
"""

__version__ = "0.1.0"
