"""The Resource Provisioner's decisions: which replicas exist, and which layers lie where. Pure."""
