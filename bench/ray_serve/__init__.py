"""Ray Serve in front of the same emulated replicas: what fmedge is compared with.

The rule: the replicas, the wire format and the client are ours and equal on both sides; everything
between them is Ray's own, as its documentation says to set it up.
"""
