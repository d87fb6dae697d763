"""Whether the operator can do its work; an outage that it waits out is no reason to restart it."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from konstruct_operator.rendered import Followed
from shared.kube.watch import Follower


def why_unready(
    scopes: Iterable[str],
    closed: AbstractSet[str],
    followed: Followed,
    leases: Follower,
    *,
    working: bool,
) -> str | None:
    """Say why the operator cannot work at present; None: it can.

    Args:
        scopes: Namespaces to serve; of a cluster-wide operator those that it has met.
        closed: Namespaces that another operator serves, or in which a right is missing.
        followed: What follows ConfigMaps, by namespace; None is the whole cluster.
        leases: What follows the workers' Leases.
        working: Whether everything has been read once.
    """
    if not working:
        return "the Agents, ConfigMaps and Leases are not all read yet"
    if closed >= set(scopes):
        return "no namespace can be served: another operator has them, or a right is missing"
    used = [follower for scope, (_, follower) in followed.items() if scope is None or scope not in closed]
    if not all(follower.connected for follower in (*used, leases)):
        return "the Kubernetes API cannot be followed; the log says why"
    return None
