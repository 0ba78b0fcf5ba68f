"""The door for modelctl: one ROUTER socket, one function a request."""
