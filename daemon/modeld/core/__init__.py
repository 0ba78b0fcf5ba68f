"""Decisions, pure: no clock, disk, socket, log or await.  Time and memory come as arguments."""
