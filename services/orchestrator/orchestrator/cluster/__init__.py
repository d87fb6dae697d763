"""Agents from the Kubernetes API: watched, checked, put in effect; and the Lease that says so."""
