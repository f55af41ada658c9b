"""A build event service that stores the events of each stream in a file; Bazel opens one an invocation.

Each file holds the build events (build_event_stream.BuildEvent) in the format of Bazel's --build_event_binary_file:
every message preceded by its length as a varint. Files are named by this program, and bounded.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc

from src.cli.terminal import printable
from src.remote.reapi import messages

# A build of this repository has 2 MB of events.
_MAX_FILE_BYTES, _MAX_FOLDER_BYTES = 256 << 20, 1 << 30
# Each occupies a thread of the server for as long as the build takes.
_MAX_STREAMS = 16

log = logging.getLogger("finetune.executor")


class BuildEventSink:
    """Serves google.devtools.build.v1.PublishBuildEvent; `methods` maps the paths of its methods to handlers."""

    def __init__(self, folder: Path) -> None:
        """Creates the folder that the files are written to."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._streams, self._cleaning = threading.BoundedSemaphore(_MAX_STREAMS), threading.Lock()
        self.methods = {
            messages.PUBLISH_LIFECYCLE_EVENT: self._lifecycle,
            messages.PUBLISH_EVENT_STREAM: self._stream,
        }

    def _lifecycle(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        del context
        for _ in requests:
            yield messages.Empty().SerializeToString()

    def _stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        if not self._streams.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_MAX_STREAMS} builds send their events already")
        try:
            yield from self._store(requests)
        finally:
            self._streams.release()

    def _store(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        with self._cleaning:
            _remove_oldest(self._folder, max_bytes=_MAX_FOLDER_BYTES)
        path = self._folder / f"{time.strftime('%Y-%m-%d_%H.%M.%S')}_{uuid.uuid4().hex[:8]}.bep"
        invocation, count, size, left_out = "", 0, 0, 0
        for raw in requests:
            ordered = messages.PublishBuildToolEventStreamRequest.FromString(raw).ordered_build_event
            invocation = ordered.stream_id.invocation_id[:40]
            if ordered.event.HasField("bazel_event"):
                event = ordered.event.bazel_event.value
                # A build does not fail for its records.
                if size + len(event) > _MAX_FILE_BYTES:
                    left_out += 1
                else:
                    count, size = count + 1, size + len(event)
                    with path.open("ab") as file:
                        file.write(_varint(len(event)) + event)
            yield messages.PublishBuildToolEventStreamResponse(
                stream_id=ordered.stream_id, sequence_number=ordered.sequence_number
            ).SerializeToString()
            if ordered.event.HasField("component_stream_finished"):
                break
        log.info("build events: %d of invocation %s in %s", count, printable(invocation), path.name)
        if left_out:
            log.warning("build events: %d more than %d MiB are left out", left_out, _MAX_FILE_BYTES >> 20)


def _remove_oldest(folder: Path, *, max_bytes: int) -> None:
    """Removes the files that were written to least recently, until the others have less than `max_bytes`."""
    files = sorted(folder.glob("*.bep"), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for path in files:
        total += path.stat().st_size
        if total > max_bytes:
            path.unlink()


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
