"""A build event service that keeps what Bazel tells of a build: one file an invocation.

Each file holds the build events (build_event_stream.BuildEvent) as Bazel's own --build_event_binary_file writes them:
every message after its length as a varint.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import grpc

from src.remote.reapi import messages as reapi

log = logging.getLogger("finetune.executor")


class BuildEventSink:
    """Serves google.devtools.build.v1.PublishBuildEvent; `methods` are its calls by path."""

    def __init__(self, folder: Path) -> None:
        """Takes the folder that the files go to, which is made."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.methods = {
            reapi.PUBLISH_LIFECYCLE_EVENT: self._lifecycle,
            reapi.PUBLISH_EVENT_STREAM: self._stream,
        }

    def _lifecycle(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        del context
        for _ in requests:
            yield reapi.Empty().SerializeToString()

    def _stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        del context
        invocation, count = "", 0
        for raw in requests:
            ordered = reapi.PublishBuildToolEventStreamRequest.FromString(raw).ordered_build_event
            # It becomes the name of a file.
            invocation = re.sub(r"[^0-9A-Za-z-]", "_", ordered.stream_id.invocation_id) or "unnamed"
            if ordered.event.HasField("bazel_event"):
                count += 1
                with (self._folder / f"{invocation}.bep").open("ab") as file:
                    file.write(_varint(len(ordered.event.bazel_event.value)) + ordered.event.bazel_event.value)
            yield reapi.PublishBuildToolEventStreamResponse(
                stream_id=ordered.stream_id, sequence_number=ordered.sequence_number
            ).SerializeToString()
            if ordered.event.HasField("component_stream_finished"):
                break
        log.info("build events: %d of invocation %s", count, invocation)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
