"""Measurements against peers and promises: `python -m bench`, or `make bench`."""
