"""Another engine's logs, estimated: a step-time model from its profile, its queue replayed.

The rule: only the profile files and the engine's limits go in; the log is what the result is held
against. Nothing here knows a device.
"""
