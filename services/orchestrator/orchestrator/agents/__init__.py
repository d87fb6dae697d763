"""Agents as workers see them: the catalog and its sources, the prompt builder and the runner."""
