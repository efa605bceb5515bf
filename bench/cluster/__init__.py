"""fmedge beside other schedulers on hardware that is emulated: docs/evaluation.md."""
