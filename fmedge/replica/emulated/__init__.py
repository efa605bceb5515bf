"""Replicas that keep real hardware's time without it.

The rule: everything but the silicon is real. The engine loop, its step policy, its slots, its
prefix cache and its KV accounting are those of a worker; a step only waits until the time that a
model gives it has passed, and tokens are drawn to a length instead of computed.
"""
