"""Virtual time: the scheduler's own core in front of engines that only pass time, and the
workloads that are played to them (or, by `fmedge bench`, to a server)."""
