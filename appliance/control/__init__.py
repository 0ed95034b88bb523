"""Control: the one privileged daemon. A few verbs over a Varlink socket that checks who asks."""
