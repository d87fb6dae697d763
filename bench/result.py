"""What a benchmark found, as a table for people and JSON for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Result:
    """Two sides measured in one run."""

    name: str
    unit: str
    sides: dict[str, float]
    ratio: float
    target: str
    met: bool
    detail: dict[str, Any] = field(default_factory=dict)

    def table(self) -> str:
        """Format the result for people."""
        width = max(len(side) for side in self.sides)
        lines = [f"{self.name}: {self.unit}"]
        lines += [f"  {side:<{width}}  {value:>10.2f}" for side, value in self.sides.items()]
        lines.append(f"  ratio {self.ratio:.2f}; target: {self.target}: {'met' if self.met else 'MISSED'}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Return the result for programs."""
        return asdict(self)
