"""What the Resource Provisioner is measured by."""
