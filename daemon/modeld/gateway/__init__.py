"""The door for HTTP clients: bytes in, a model found, bytes out."""
