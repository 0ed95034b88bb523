"""Updates: a signed bundle is verified, written to the slot that does not run, tried, and kept or given up.

Glossary:

*bundle*    one file with a version's pieces behind a signed manifest
*manifest*  what the pieces are, whose product and which version; signed by the owner's update key
*piece*     one part of a version: the root file system, its hash tree, the signature, the kernel image
*slot*      three partitions that hold a version; two slots, of which one runs
*trial*     the boots that a new version has to pass its health check in; then it is *kept*
*floor*     the highest version that was ever kept here: no update goes below it
"""
