"""Trains the model that ships inside fmedge. Nothing here is installed: docs/embedded-model.md."""
