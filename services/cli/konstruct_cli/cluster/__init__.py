"""Speaking to a stack in a Kubernetes cluster.

From outside, commands run in a worker's Pod through ``pods/exec``: no secret of the database or the queue
leaves the cluster. Inside a Pod, ``konstruct status`` reads the Agents and the workers' Leases.
"""
