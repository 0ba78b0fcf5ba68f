"""One module a command group: options -> request, reply -> text.  Each is imported by name."""
