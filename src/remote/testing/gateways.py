"""A gateway in front of a server in memory, on loopback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import grpc

from src.remote.config.endpoints import KEY_HEADER
from src.remote.serving.admission import ApiKeyCheck, Offer
from src.remote.serving.gateway import Gateway
from src.remote.serving.loopback import listen
from src.remote.testing.memory_executor import MemoryExecutor, served


@contextmanager
def served_gateway(
    executor: MemoryExecutor,
    *,
    properties: Mapping[str, str],
    image: str | None = None,
    key: str | None = None,
    queue_unmatched: bool = False,
    credentials: grpc.ServerCredentials | None = None,
) -> Iterator[str]:
    """Serves a gateway that forwards to `executor`; yields its host and port."""
    with served(executor) as upstream, grpc.insecure_channel(upstream) as channel:
        gateway = Gateway(
            upstream=channel,
            offer=Offer(properties=properties, image=image),
            key_check=ApiKeyCheck(header=KEY_HEADER, key=key),
            queue_unmatched=queue_unmatched,
            local_methods={},
        )
        server, port = listen(gateway, port=0, credentials=credentials)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            gateway.stopping.set()
            server.stop(None).wait()
