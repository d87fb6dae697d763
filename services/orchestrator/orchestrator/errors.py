"""Errors of the orchestrator; the class says who acts on them.

::

    OrchestratorError
     ├── SubmitError            for senders: the message was not taken
     │    ├── MessageConflictError
     │    ├── BacklogFullError
     │    └── StoreUnavailableError
     └── DeliveryError          for the task: what becomes of this delivery
          ├── PutBackError      deliver it again after a delay
          ├── HandBackError     deliver it again at once, to another worker
          └── QuarantinedError  let go of it: the message needs none
"""

from __future__ import annotations


class OrchestratorError(Exception):
    """Base of the orchestrator's errors."""


class SubmitError(OrchestratorError):
    """A message was not submitted; the message says what to do."""


class MessageConflictError(SubmitError):
    """Another message was recorded under this id. Not worth a retry: choose a new id."""


class BacklogFullError(SubmitError):
    """Too many messages of the tenant wait their turn: nothing was recorded. Submit again later."""


class StoreUnavailableError(SubmitError):
    """PostgreSQL cannot be reached: nothing was recorded. Submit again later."""


class DeliveryError(OrchestratorError):
    """This delivery cannot be finished now; the message stays recorded."""


class PutBackError(DeliveryError):
    """Deliver the message again after a delay: it is another's turn, or a store is away."""

    def __init__(self, why: str, *, delay_s: float | None = None) -> None:
        super().__init__(why)
        self.delay_s = delay_s
        """Seconds until the next delivery; None: by the number of deliveries so far."""


class HandBackError(DeliveryError):
    """Deliver the message again at once: this worker is shutting down."""


class QuarantinedError(DeliveryError):
    """Workers died while the message was under way: :mod:`orchestrator.quarantine` works on it alone."""
