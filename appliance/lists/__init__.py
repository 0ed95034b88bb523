"""isthmus-lists: the lists of names that rules speak of, fetched, compiled and kept.

*Source*: where a list comes from, an address of the web or a file. *Validators*: by what a server tells that
nothing has changed. *Table*: what a list is compiled to (``policy.name_table``); the *served* one lies in the
runtime folder, which is memory, so that a broken disk reaches no worker; the *kept* one on the disk, for the
next start. *Keeper*: one list's.
"""
