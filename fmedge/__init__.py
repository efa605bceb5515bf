"""fmedge: the SLA-aware runtime for foundation models."""

__version__ = "0.1.0"
