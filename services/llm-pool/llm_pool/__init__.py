"""The LLM pool: a FastAPI service in front of LiteLLM, with honest fallback.

From the outside in: `main` (application) and `routes` (HTTP) -> `dispatch` (who is asked, in which
order) -> `providers` (one call to one deployment). `router` owns the groups and their deployments.
"""

from importlib.metadata import version

__version__ = version("konstruct-llm-pool")
"""Version of this service."""
