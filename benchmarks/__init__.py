"""Measurements of a running server: `make bench`. Each module measures one thing and prints one table."""
