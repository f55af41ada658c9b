"""What the executor admits: calls that hold the API key, and actions whose platform properties its workers have."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

IMAGE_PROPERTY = "container-image"
# The only property that is compared by size; NativeLink's docker/ configs call that `minimum`.
_MINIMUM = "cpu_count"


@dataclass(frozen=True, kw_only=True)
class ApiKeyCheck:
    """The header that has to hold the API key; without a key every call is allowed."""

    header: str
    key: str | None

    def allows(self, headers: Mapping[str, str | bytes]) -> bool:
        """Whether a call's headers hold the key."""
        if self.key is None:
            return True
        value = headers.get(self.header, "")
        return hmac.compare_digest(value if isinstance(value, bytes) else value.encode(), self.key.encode())


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What the workers of this executor offer.

    Attributes:
        properties: platform properties, name to value.
        image: what the image's name resolves to here: a reference that the runner can pull, or None where actions see
            this machine's own programs.
    """

    properties: Mapping[str, str]
    image: str | None

    def mismatch(self, requested: Mapping[str, str]) -> str | None:
        """Returns one sentence that says why no worker matches the requested properties; None if one does."""
        for name, value in sorted(requested.items()):
            offered = self.properties.get(name)
            if offered is None:
                return f"no worker has the property {name} (requested: {value}); workers have {self._names()}"
            if name == _MINIMUM and value.isdigit() and offered.isdigit():
                if int(value) > int(offered):
                    return f"no worker has {name}={value}: each has {offered}"
            elif value != offered:
                return f"no worker has {name}={value}: workers have {name}={offered}"
        return None

    def _names(self) -> str:
        return ", ".join(sorted(self.properties)) or "none"
