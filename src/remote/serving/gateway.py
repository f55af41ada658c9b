"""The front of the executor: checks the key, matches platforms and forwards everything else to buildbox-casd.

Debian's Bazel 4 speaks version 2.0 of the protocol, buildbox-casd 2.1 and later: casd ignores `output_files` and
`output_directories`, so a test would pass and its outputs be lost. The gateway rewrites them to `output_paths`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc

from src.remote.reapi import messages
from src.remote.reapi.forwarding import forward
from src.remote.serving.activity import Activity
from src.remote.serving.admission import IMAGE_PROPERTY, ApiKeyCheck, Offer

# How often a queued action checks whether its client has gone.
_POLL_SECONDS = 0.5

log = logging.getLogger("finetune.executor")

Call = Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]


class Gateway(grpc.GenericRpcHandler):
    """Serves every method of the remote execution API by forwarding to another server."""

    def __init__(
        self,
        *,
        upstream: grpc.Channel,
        offer: Offer,
        key_check: ApiKeyCheck,
        queue_unmatched: bool,
        local_methods: Mapping[str, Call],
    ) -> None:
        """Keeps the channel and the checks.

        Args:
            upstream: to buildbox-casd.
            offer: what the workers offer.
            key_check: which calls are allowed.
            queue_unmatched: whether an action that no worker matches queues forever, as it does with NativeLink, or is
                refused at once.
            local_methods: methods that are served here, by path.
        """
        self._upstream, self._offer, self._key_check = upstream, offer, key_check
        self._queue_unmatched, self._local_methods = queue_unmatched, local_methods
        self.activity = Activity()
        self.stopping = threading.Event()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Returns the handler of a method: bytes in, bytes out."""
        method = handler_call_details.method
        forwarded = self._execute if method == messages.EXECUTE else self._forwarded(method)
        return grpc.stream_stream_rpc_method_handler(self._guarded(self._local_methods.get(method) or forwarded))

    def _guarded(self, call: Call) -> Call:
        def guarded(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            headers = dict(context.invocation_metadata())
            if not self._key_check.allows(headers):
                header = self._key_check.header
                problem = "does not hold the right key" if header in headers else "is missing"
                context.abort(grpc.StatusCode.UNAUTHENTICATED, f"the header {header} {problem}")
            with self.activity:
                yield from call(requests, context)

        return guarded

    def _forwarded(self, method: str) -> Call:
        def call(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            for answer in self._forward(method, requests, context):
                yield _for_version_2_0(answer) if method == messages.GET_CAPABILITIES else answer

        return call

    def _forward(self, method: str, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        # The key is for the gateway, not for the server behind it.
        return forward(self._upstream, method, requests, context, replaced={self._key_check.header: None})

    def _execute(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        request = messages.ExecuteRequest.FromString(next(requests, b""))
        try:
            action = messages.Action.FromString(self._read(request.action_digest))
            command = messages.Command.FromString(self._read(action.command_digest))
        except KeyError as missing:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"the blob {missing} is missing")
        if problem := self._offer.mismatch(messages.properties_of(command, action)):
            yield from self._refuse_or_queue(problem, request, context)
            return
        client_digest = messages.Digest.FromString(request.action_digest.SerializeToString())
        request.action_digest.CopyFrom(self._rewrite(action, command))
        for answer in self._forward(messages.EXECUTE, iter([request.SerializeToString()]), context):
            if not action.do_not_cache:
                self._cache_result(answer, client_digest)
            yield answer

    def _refuse_or_queue(self, problem: str, request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        if not self._queue_unmatched:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, problem)
        log.warning("an action queues forever: %s", problem)
        operation = messages.Operation(name=request.action_digest.hash)
        metadata = messages.ExecuteOperationMetadata(stage=messages.QUEUED, action_digest=request.action_digest)
        operation.metadata.type_url = messages.EXECUTE_METADATA_TYPE
        operation.metadata.value = metadata.SerializeToString()
        yield operation.SerializeToString()
        while context.is_active() and not self.stopping.wait(_POLL_SECONDS):
            pass

    def _rewrite(self, action: Any, command: Any) -> Any:
        """Stores the action in the form that buildbox-casd reads; returns its digest."""
        if not command.output_paths:
            command.output_paths.extend(sorted([*command.output_files, *command.output_directories]))
        del command.output_files[:]
        del command.output_directories[:]
        properties = {} if self._offer.image is None else {IMAGE_PROPERTY: self._offer.image}
        command.platform.CopyFrom(messages.platform_of(properties))
        action.platform.CopyFrom(command.platform)
        action.command_digest.CopyFrom(self._write(command.SerializeToString(deterministic=True)))
        return self._write(action.SerializeToString(deterministic=True))

    def _cache_result(self, answer: bytes, client_digest: Any) -> None:
        """Caches the result of a finished action under the digest that the client looks up."""
        operation = messages.Operation.FromString(answer)
        if not operation.done:
            return
        response = messages.ExecuteResponse.FromString(operation.response.value)
        if response.status.code == 0 and response.result.exit_code == 0:
            update = messages.UpdateActionResultRequest(action_digest=client_digest, action_result=response.result)
            self._upstream.unary_unary(messages.UPDATE_ACTION_RESULT)(update.SerializeToString())

    def _read(self, digest: Any) -> bytes:
        request = messages.BatchReadBlobsRequest(digests=[digest]).SerializeToString()
        answer = self._upstream.unary_unary(messages.BATCH_READ_BLOBS)(request)
        blob = messages.BatchReadBlobsResponse.FromString(answer).responses[0]
        if blob.status.code:
            raise KeyError(digest.hash)
        return bytes(blob.data)

    def _write(self, content: bytes) -> Any:
        digest = messages.digest_of(content)
        request = messages.BatchUpdateBlobsRequest()
        request.requests.add(digest=digest, data=content)
        self._upstream.unary_unary(messages.BATCH_UPDATE_BLOBS)(request.SerializeToString())
        return digest


def _for_version_2_0(answer: bytes) -> bytes:
    capabilities = messages.ServerCapabilities.FromString(answer)
    capabilities.low_api_version.minor = 0
    return bytes(capabilities.SerializeToString())
