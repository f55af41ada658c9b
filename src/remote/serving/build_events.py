"""A build event service that stores the events of each invocation in a file.

Each file holds the build events (build_event_stream.BuildEvent) in the format of Bazel's --build_event_binary_file:
every message preceded by its length as a varint.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import grpc

from src.remote.reapi import messages

log = logging.getLogger("finetune.executor")


class BuildEventSink:
    """Serves google.devtools.build.v1.PublishBuildEvent; `methods` maps the paths of its methods to handlers."""

    def __init__(self, folder: Path) -> None:
        """Creates the folder that the files are written to."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.methods = {
            messages.PUBLISH_LIFECYCLE_EVENT: self._lifecycle,
            messages.PUBLISH_EVENT_STREAM: self._stream,
        }

    def _lifecycle(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        del context
        for _ in requests:
            yield messages.Empty().SerializeToString()

    def _stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        del context
        invocation, count = "", 0
        for raw in requests:
            ordered = messages.PublishBuildToolEventStreamRequest.FromString(raw).ordered_build_event
            # It becomes a file name.
            invocation = re.sub(r"[^0-9A-Za-z-]", "_", ordered.stream_id.invocation_id) or "unnamed"
            if ordered.event.HasField("bazel_event"):
                count += 1
                with (self._folder / f"{invocation}.bep").open("ab") as file:
                    file.write(_varint(len(ordered.event.bazel_event.value)) + ordered.event.bazel_event.value)
            yield messages.PublishBuildToolEventStreamResponse(
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
