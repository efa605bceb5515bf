"""Rows about promises: estimates against what happens, and what decisions by them are worth."""
