"""How the built-in bundle `general` is made; see README.md."""
