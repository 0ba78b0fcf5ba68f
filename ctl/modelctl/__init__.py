"""
The client of modeld: a command line that asks over a ZeroMQ socket and prints the answer.

    table      every command as literal data
    parse      argv -> a command and its options
    commands/  one module a command group: options -> request, answer -> text
    client     the socket: requests, progress, deadlines, a daemon that comes and goes
    session    what every command has at hand: options, connection, streams
    render/    answer -> text or JSON, pure
    importing/ other programs' configurations, in modeld's words
    progress   what a load looks like while it goes on

What a command does not use, it does not import: start-up is most of what modelctl costs.
"""

from modeld.version import VERSION

__version__ = VERSION
