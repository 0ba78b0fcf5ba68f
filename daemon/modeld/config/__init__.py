"""The configuration: its schema with every default, and how files, environment and flags make one."""
