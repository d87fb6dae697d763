"""The Kubernetes part of shared: names and stored objects (pure), the client and the list+watch loop.

Needs the extra ``shared[kube]``; the llm-pool has neither it nor any access to the API.
"""
