"""The configuration: its schema with every default, and how files and environment make one."""
