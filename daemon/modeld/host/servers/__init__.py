"""
The processes of llama-server: two ways to have them, one promise.

`direct.DirectServers` starts each in a session of its own; `systemd.SystemdServers` has the
user manager run it as `modeld-llama@ID.service`.  Both leave it running when the daemon ends,
find it again, tell how it ended, and never signal a process that is not one of theirs.
`tests/host/test_servers.py` holds both to that, word for word.

    records   what is written down of each server, and the files it talks through
    process   one process, identified and held so that no other can be taken for it
    engine    what is peculiar to llama-server: how it is ended, and the log that it leaves
    bus       the user manager over D-Bus
    journal   what a unit wrote
"""
