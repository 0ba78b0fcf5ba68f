"""
The protocol between modelctl and modeld, shared by both.

One module a command group, so that a client imports only the messages it uses.  Schema rules:
a new field has a default; no field changes its type or meaning; the daemon refuses fields that
it does not know, lest it half obey; the client ignores them.
"""
