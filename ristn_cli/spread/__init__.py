"""One job, or several, spread over the devices of a machine or over the machines of a cluster."""
