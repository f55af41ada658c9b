"""A remote execution server in memory: a CAS, an action cache and a worker that runs commands on this machine.

Like buildbox-casd it reads only `output_paths`.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from src.remote.reapi import messages


class MemoryExecutor(grpc.GenericRpcHandler):
    """Serves what the tests need.

    Attributes:
        blobs: the CAS, by hash.
        results: the action cache, by hash.
        actions: the actions that ran, with their commands.
        headers: names of the headers of capability calls.
    """

    def __init__(self, *, time_limit: int = 1000) -> None:
        self.blobs: dict[str, bytes] = {}
        self.results: dict[str, Any] = {}
        self.actions: list[tuple[Any, Any]] = []
        self.headers: list[str] = []
        self._time_limit = time_limit

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        methods = {
            messages.GET_CAPABILITIES: self._capabilities,
            messages.BATCH_UPDATE_BLOBS: self._update,
            messages.BATCH_READ_BLOBS: self._read,
            messages.UPDATE_ACTION_RESULT: self._update_result,
            messages.EXECUTE: self._execute,
        }
        call = methods.get(handler_call_details.method)
        return grpc.stream_stream_rpc_method_handler(call) if call else None

    def _capabilities(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        list(requests)
        self.headers += [name for name, _ in context.invocation_metadata()]
        capabilities = messages.ServerCapabilities()
        capabilities.execution_capabilities.exec_enabled = True
        capabilities.low_api_version.major, capabilities.low_api_version.minor = 2, 1
        capabilities.high_api_version.major = 2
        yield capabilities.SerializeToString()

    def _update(self, requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        answer = messages.BatchUpdateBlobsResponse()
        for each in messages.BatchUpdateBlobsRequest.FromString(next(requests)).requests:
            self.blobs[each.digest.hash] = each.data
            answer.responses.add(digest=each.digest)
        yield answer.SerializeToString()

    def _read(self, requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        answer = messages.BatchReadBlobsResponse()
        for digest in messages.BatchReadBlobsRequest.FromString(next(requests)).digests:
            blob = self.blobs.get(digest.hash)
            status = {"code": grpc.StatusCode.NOT_FOUND.value[0]} if blob is None else {}
            answer.responses.add(digest=digest, data=blob or b"", status=status)
        yield answer.SerializeToString()

    def _update_result(self, requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        request = messages.UpdateActionResultRequest.FromString(next(requests))
        self.results[request.action_digest.hash] = request.action_result
        yield request.action_result.SerializeToString()

    def _execute(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        request = messages.ExecuteRequest.FromString(next(requests))
        action = messages.Action.FromString(self.blobs[request.action_digest.hash])
        command = messages.Command.FromString(self.blobs[action.command_digest.hash])
        self.actions.append((action, command))
        if action.timeout.seconds > self._time_limit:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "timeout above the maximum")
        response = messages.ExecuteResponse()
        with tempfile.TemporaryDirectory() as folder:
            for file in messages.Directory.FromString(self.blobs.get(action.input_root_digest.hash, b"")).files:
                (Path(folder) / file.name).write_bytes(self.blobs[file.digest.hash])
            done = subprocess.run(list(command.arguments), cwd=folder, capture_output=True, check=False)
            response.result.exit_code = done.returncode
            response.result.stdout_raw, response.result.stderr_raw = done.stdout, done.stderr
            for path in command.output_paths:
                if (Path(folder) / path).is_file():
                    response.result.output_files.add(path=path)
        operation = messages.Operation(name="operation", done=True)
        operation.response.type_url = messages.EXECUTE_RESPONSE_TYPE
        operation.response.value = response.SerializeToString()
        yield operation.SerializeToString()


@contextmanager
def served(handler: grpc.GenericRpcHandler) -> Iterator[str]:
    """Serves a handler on loopback; yields its address."""
    server = grpc.server(futures.ThreadPoolExecutor(16), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
