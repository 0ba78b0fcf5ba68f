"""This machine: adapters behind the ports of the supervisor, none of which knows another."""
