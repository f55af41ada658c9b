"""The front of the executor: demands the key, compares platforms, and passes everything else on to buildbox-casd.

Debian's Bazel 4 speaks version 2.0 of the protocol, buildbox-casd 2.1 and later: it ignores `output_files` and
`output_directories`, so that a test would pass and its outputs be gone. They are rewritten here to `output_paths`.
"""

from __future__ import annotations

import hmac
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from src.remote.reapi import messages as reapi
from src.remote.reapi.forwarding import forward
from src.remote.serving.activity import Activity
from src.remote.serving.admission import IMAGE_PROPERTY, Offer

# How often a waiting action looks whether its client has gone.
_WAIT_SECONDS = 0.5

log = logging.getLogger("finetune.executor")

Call = Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]


@dataclass(frozen=True, kw_only=True)
class Door:
    """Who is let in: the name of a header and the key that it has to hold; no key lets everyone in."""

    header: str
    key: str | None

    def admits(self, headers: dict[str, str | bytes]) -> bool:
        """Whether a call's headers hold the key."""
        if self.key is None:
            return True
        given = headers.get(self.header, "")
        return hmac.compare_digest(given if isinstance(given, bytes) else given.encode(), self.key.encode())


class Gateway(grpc.GenericRpcHandler):
    """Serves every method of the remote execution API by way of another server."""

    def __init__(
        self, *, upstream: grpc.Channel, offer: Offer, door: Door, queue_strangers: bool, own: Mapping[str, Call]
    ) -> None:
        """Takes where calls go and what is checked before.

        Args:
            upstream: buildbox-casd.
            offer: what the workers are.
            door: who is let in.
            queue_strangers: whether an action that no worker can run waits for ever, as it does with NativeLink, or is
                refused at once.
            own: methods that are served here, by path.
        """
        self._upstream, self._offer, self._door = upstream, offer, door
        self._queue_strangers, self._own = queue_strangers, own
        self.activity = Activity()
        self.stopping = threading.Event()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Returns the handler of a method: bytes in, bytes out."""
        method = handler_call_details.method
        call = self._own.get(method) or (self._execute if method == reapi.EXECUTE else self._relay(method))
        return grpc.stream_stream_rpc_method_handler(self._guarded(call))

    def _guarded(self, call: Call) -> Call:
        def guarded(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            headers = dict(context.invocation_metadata())
            if not self._door.admits(headers):
                said = "is missing" if self._door.header not in headers else "does not hold the right key"
                context.abort(grpc.StatusCode.UNAUTHENTICATED, f"the header {self._door.header} {said}")
            with self.activity:
                yield from call(requests, context)

        return guarded

    def _relay(self, method: str) -> Call:
        def relay(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            for answer in self._forward(method, requests, context):
                yield _for_version_2_0(answer) if method == reapi.GET_CAPABILITIES else answer

        return relay

    def _forward(self, method: str, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        # The key is for this door, not for the server behind.
        return forward(self._upstream, method, requests, context, replaced={self._door.header: None})

    def _execute(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        request = reapi.ExecuteRequest.FromString(next(requests))
        try:
            action = reapi.Action.FromString(self._read(request.action_digest))
            command = reapi.Command.FromString(self._read(action.command_digest))
        except KeyError as missing:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"the blob {missing} is not there")
        if problem := self._offer.mismatch(reapi.properties_of(command, action)):
            yield from self._turn_away(problem, request, context)
            return
        asked_for = reapi.Digest.FromString(request.action_digest.SerializeToString())
        request.action_digest.CopyFrom(self._rewrite(action, command))
        for answer in self._forward(reapi.EXECUTE, iter([request.SerializeToString()]), context):
            if not action.do_not_cache:
                self._remember(answer, asked_for)
            yield answer

    def _turn_away(self, problem: str, request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        if not self._queue_strangers:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, problem)
        log.warning("an action waits for ever: %s", problem)
        waiting = reapi.Operation(name=request.action_digest.hash)
        metadata = reapi.ExecuteOperationMetadata(stage=reapi.QUEUED, action_digest=request.action_digest)
        waiting.metadata.type_url = reapi.EXECUTE_METADATA_TYPE
        waiting.metadata.value = metadata.SerializeToString()
        yield waiting.SerializeToString()
        while context.is_active() and not self.stopping.wait(_WAIT_SECONDS):
            pass

    def _rewrite(self, action: Any, command: Any) -> Any:
        """Stores the action as buildbox-casd understands it; returns its digest."""
        if not command.output_paths:
            command.output_paths.extend(sorted([*command.output_files, *command.output_directories]))
        del command.output_files[:]
        del command.output_directories[:]
        properties = {} if self._offer.image is None else {IMAGE_PROPERTY: self._offer.image}
        command.platform.CopyFrom(reapi.platform_of(properties))
        action.platform.CopyFrom(command.platform)
        action.command_digest.CopyFrom(self._write(command.SerializeToString(deterministic=True)))
        return self._write(action.SerializeToString(deterministic=True))

    def _remember(self, answer: bytes, asked_for: Any) -> None:
        """Keeps the result of a finished action under the digest that the client knows."""
        operation = reapi.Operation.FromString(answer)
        if not operation.done:
            return
        response = reapi.ExecuteResponse.FromString(operation.response.value)
        if response.status.code == 0 and response.result.exit_code == 0:
            kept = reapi.UpdateActionResultRequest(action_digest=asked_for, action_result=response.result)
            self._upstream.unary_unary(reapi.UPDATE_ACTION_RESULT)(kept.SerializeToString())

    def _read(self, digest: Any) -> bytes:
        request = reapi.BatchReadBlobsRequest(digests=[digest]).SerializeToString()
        answer = self._upstream.unary_unary(reapi.BATCH_READ_BLOBS)(request)
        blob = reapi.BatchReadBlobsResponse.FromString(answer).responses[0]
        if blob.status.code:
            raise KeyError(digest.hash)
        return bytes(blob.data)

    def _write(self, content: bytes) -> Any:
        digest = reapi.digest_of(content)
        request = reapi.BatchUpdateBlobsRequest()
        request.requests.add(digest=digest, data=content)
        self._upstream.unary_unary(reapi.BATCH_UPDATE_BLOBS)(request.SerializeToString())
        return digest


def _for_version_2_0(answer: bytes) -> bytes:
    capabilities = reapi.ServerCapabilities.FromString(answer)
    capabilities.low_api_version.minor = 0
    return bytes(capabilities.SerializeToString())
