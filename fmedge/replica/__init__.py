"""Replicas: the worker process, its engine loop, and the front's handle on both."""
