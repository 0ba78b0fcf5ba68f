"""
The kinds of events that modeld logs, each with its fixed id for the journal.

`journalctl --user MESSAGE_ID=...` finds all of one kind, whatever its sentence says.  An id never
changes and is never given to another kind.  Nothing is logged here.
"""

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of event."""

    message_id: str
    priority: int
    """As in syslog(3), where the event does not say otherwise."""
    meaning: str


_TABLE = """
1abc7db0ec4c4ff68f21c77d0a8daed4 6 started           modeld serves
df8c62e17685442c9d8fd9313554f740 5 slow-start        the start goes on in the background
6899e01951014efba9eb860980d9e671 6 stopped           modeld ends
0bcae52937034e9db3d2c9db79bd99a4 6 config-reloaded   the configuration was read again
c98c83dcb8f141ada92b6de5ce5194c2 3 config-invalid    a new configuration was refused
163c6cfa78e440609a7663ee2b0b4881 5 config-unused     something was set and has no effect
6de746b35eca4af0a311237a438031c1 6 scan-finished     the models on disk are others than before
b58f5cea5f3647cea20ce1ee29272fbc 7 folder-changed    something below a model folder changed
d4271cd7f09a4da88720314d2df931ad 5 folder-polled     a model folder can't be watched, only looked at
865df491133346c2ac1a1e4d3fef9102 4 folder-missing    a model folder is not there, or can't be read
c40250ed3a564a54be0fd8e614818f8a 4 load-failed       a load was begun, and its server died
afc9bdcc191f4b08abcef19a08f26e0a 4 load-refused      a load was accepted, and then given up
6e3bc81a1d7d401b9db301b2f89bf976 4 load-retried      a load ran out of memory, is tried again
60222ab2d7a3417f99622725e0dd75ad 5 preload-skipped   what is to be loaded at the start is unknown
0cb6ea3ec77349fea36ee1dbeac62b51 5 refused           a request was refused, and why
fe3b204b1bf54bf0a73af1346e9870e8 6 server-starting   a llama-server is started
dd1f7afbf30d4b91bfbedd0a95047b2a 6 server-ready      a model can be asked
28deff16d15b444f8e78da135d4a12c7 7 server-state      a server went from one state to another
afe51615a90e4ce7b60683bc82e5e6a6 6 server-draining   a server finishes its requests, then stops
abf7f3fefa134d00a2fc381e34553dc8 6 server-stopped    a server has ended as it was told to
ce02450c8b5a4ba2a05d10c829c85b7e 4 server-killed     a server did not end when asked: SIGKILL
29255f63dce54b9babeeec1482ca5220 3 server-stalled    a server moves none of its requests
c9eb1ddc8d9b4b05bbf31f45d44535cf 3 server-failed     a server died, and what is done about it
db260e8c6b1c42a581cdb50c229277e7 6 server-adopted    a server of an earlier modeld was taken over
98285bf46d1f485d956480439c63a0d3 4 server-exited     a server ended while no modeld watched
f995c3b0ee174be6813fc256f10eb84e 2 server-unreapable a server survives SIGKILL: a disk or driver
5d2bf2b572484f99b8830b382b722c2e 6 names-changed     nicknames or slots changed
9e087643c6914bc18daf05fbd504ef5d 6 pins-changed      a model was pinned or unpinned
70654bc617f7fef5e4673d19c544152c 6 history-imported  what another program remembered was taken over
76aafb04aa574247a59624f542bacc0c 6 state-saved       the state file can be written again
08b4630bb40642f4ae2a34a1c95b1216 3 state-not-saved   the state file could not be written
332b117914404bf0991ef5a51136036f 4 state-repaired    the state file was damaged, and what is used
dd0cb4b763b14dd58f7fe61250736ea5 6 copy-started      a model is copied to the SSD, and why
53b79cb6cd5043d5a8e6edbf69c81002 6 copying           how far a copy is
64a9ab0c915e492186ed744a9c5b56b9 6 copied            a copy is complete, and used from now on
064d116ad5104155a58c2ef43ce714a6 4 copy-failed       a copy failed, or the SSD can't be written
5436321fb90c449d83b297c03c0867ba 3 copy-damaged      a copy is not what was written, and is removed
53566db8f37c4592832ee7c78a180483 3 expired           a copy gave way to others, and why
ebec4736f4534d61bb8eb4462d117023 6 binary-found      which llama-server is used
ca107f4614d84280ba50e0703a92eba2 4 binary-missing    there is no llama-server that can be used
22b9d8ef77f34b5a906f0b84c70d1201 6 routed            a model was chosen for requests that named none
0a423dcaeafc489ab6a4b0d0267242b2 6 request-served    a request to a model is over
890ff4f59b244de3878d4330d091f963 4 client-refused    another user's program was turned away
e94efe98d1b64e8496e4c828e0a1b962 2 bug               a request met a bug in modeld
e9c53f0f33134a2895846f718999b77a 6 library           a library that modeld uses has something to say
"""


def _parse(line: str) -> tuple[str, Kind]:
    message_id, priority, event, meaning = line.split(maxsplit=3)
    return event, Kind(message_id, int(priority), meaning)


EVENTS: dict[str, Kind] = dict(map(_parse, _TABLE.strip().splitlines()))
"""Event -> what it is."""
