"""Who may speak as which agent: the tenant comes from the namespace, a name belongs to the oldest. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from shared.kube.objects import AgentRef, ConditionReason, Object, Seniority
from shared.models import TENANT_LABEL
from shared.names import is_dns_label


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an Agent is served, and beside whom."""

    reason: ConditionReason
    """``Accepted``, ``NoTenant``, ``InvalidTenant`` or ``NameTaken``."""

    tenant_id: str | None
    """Tenant that its namespace belongs to, if any."""

    label: str | None = None
    """What the namespace's label says, when that names no tenant."""

    rivals: tuple[AgentRef, ...] = ()
    """Others that claim the name, oldest first; the first has it when the reason is ``NameTaken``."""

    @property
    def accepted(self) -> bool:
        """Whether it is served."""
        return self.reason is ConditionReason.ACCEPTED


def tenant_label(namespace: Object) -> str | None:
    """Return the label of a Namespace that says whose it is, if it has one."""
    labels = namespace["metadata"].get("labels") or {}
    return labels.get(TENANT_LABEL) or None


class Roster:
    """Every Agent and every namespace's tenant; each change tells which other Agents it concerns."""

    def __init__(self) -> None:
        self._labels: dict[str, str | None] = {}
        self._claims: dict[AgentRef, Seniority] = {}
        self._by_namespace: defaultdict[str, set[str]] = defaultdict(set)
        self._by_name: defaultdict[str, set[str]] = defaultdict(set)

    def knows_namespace(self, namespace: str) -> bool:
        """Whether the label of `namespace` is known (that it has none is known too)."""
        return namespace in self._labels

    def agents(self, namespace: str | None = None) -> list[AgentRef]:
        """List the Agents of `namespace`, or of all."""
        if namespace is None:
            return list(self._claims)
        return [(namespace, name) for name in sorted(self._by_namespace.get(namespace, ()))]

    def set_label(self, namespace: str, label: str | None) -> set[AgentRef]:
        """Note what the tenant label of `namespace` says; returns the Agents whose verdict may change."""
        if namespace in self._labels and self._labels[namespace] == label:
            return set()
        names = self._by_namespace.get(namespace, set())
        concerned = {rival for name in names for rival in self._claimants(self.tenant(namespace), name)}
        self._labels[namespace] = label
        concerned |= {rival for name in names for rival in self._claimants(self.tenant(namespace), name)}
        return concerned | {(namespace, name) for name in names}

    def forget_namespace(self, namespace: str) -> set[AgentRef]:
        """Note that `namespace` is gone; returns the Agents whose verdict may change."""
        concerned = self.set_label(namespace, None)
        self._labels.pop(namespace, None)
        return concerned

    def put(self, ref: AgentRef, seniority: Seniority) -> set[AgentRef]:
        """Note an Agent; returns the others whose verdict may change."""
        if self._claims.get(ref) == seniority:
            return set()
        namespace, name = ref
        self._claims[ref] = seniority
        self._by_namespace[namespace].add(name)
        self._by_name[name].add(namespace)
        return self._others(ref)

    def remove(self, ref: AgentRef) -> set[AgentRef]:
        """Note that an Agent is gone; returns the others whose verdict may change."""
        if self._claims.pop(ref, None) is None:
            return set()
        concerned = self._others(ref)
        namespace, name = ref
        _discard(self._by_namespace, namespace, name)
        _discard(self._by_name, name, namespace)
        return concerned

    def tenant(self, namespace: str) -> str | None:
        """Tenant that `namespace` belongs to, if it is known and its label names one."""
        label = self._labels.get(namespace)
        return label if label is not None and is_dns_label(label) else None

    def verdict(self, ref: AgentRef) -> Verdict:
        """Decide on an Agent."""
        namespace, name = ref
        tenant, label = self.tenant(namespace), self._labels.get(namespace)
        if tenant is None:
            reason = ConditionReason.INVALID_TENANT if label else ConditionReason.NO_TENANT
            return Verdict(reason, None, label)
        claimants = sorted(self._claimants(tenant, name), key=lambda claimant: self._claims[claimant])
        rivals = tuple(claimant for claimant in claimants if claimant != ref)
        taken = bool(claimants) and claimants[0] != ref
        return Verdict(
            ConditionReason.NAME_TAKEN if taken else ConditionReason.ACCEPTED, tenant, rivals=rivals
        )

    def _others(self, ref: AgentRef) -> set[AgentRef]:
        namespace, name = ref
        return {claimant for claimant in self._claimants(self.tenant(namespace), name) if claimant != ref}

    def _claimants(self, tenant: str | None, name: str) -> Iterator[AgentRef]:
        if tenant is not None:
            for namespace in self._by_name.get(name, ()):
                if self.tenant(namespace) == tenant:
                    yield namespace, name


def _discard(index: dict[str, set[str]], key: str, value: str) -> None:
    index[key].discard(value)
    if not index[key]:
        del index[key]
