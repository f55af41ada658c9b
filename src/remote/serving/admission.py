"""Whether a worker here may run an action: the properties it asks for against those that are offered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

IMAGE_PROPERTY = "container-image"
# The only property that is compared by size; NativeLink's docker/ configs call that `minimum`.
_MINIMUM = "cpu_count"


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What the workers of this executor are.

    Attributes:
        properties: platform properties, name to value.
        image: what the image's name stands for here: a reference that the runner can pull, or None where actions see
            this machine's own programs.
    """

    properties: Mapping[str, str]
    image: str | None

    def mismatch(self, asked: Mapping[str, str]) -> str | None:
        """Says in one sentence why no worker has what an action asks for; None if one has."""
        for name, value in sorted(asked.items()):
            offered = self.properties.get(name)
            if offered is None:
                return f"no worker here has the property {name} (asked for: {value}); they have {self._names()}"
            if name == _MINIMUM and value.isdigit() and offered.isdigit():
                if int(value) > int(offered):
                    return f"no worker here has {name}={value}: each has {offered}"
            elif value != offered:
                return f"no worker here has {name}={value}: they have {name}={offered}"
        return None

    def _names(self) -> str:
        return ", ".join(sorted(self.properties)) or "none"
