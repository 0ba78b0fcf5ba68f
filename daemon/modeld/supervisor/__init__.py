"""The one loop that owns all mutable state, and what it needs of the world."""
