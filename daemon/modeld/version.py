"""The version: a literal, so that reading it costs nothing."""

VERSION = "0.1.0"
