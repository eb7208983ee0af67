"""Distributes jobs over the devices of a machine or the machines of a cluster."""
