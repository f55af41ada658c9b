"""A client of the remote execution API: uploads a small action, runs it and returns its output."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from src.remote.reapi import messages

_METADATA_HEADER = "build.bazel.remote.execution.v2.requestmetadata-bin"


class RemoteError(Exception):
    """A call failed. `code` is gRPC's name of the status, such as UNAUTHENTICATED."""

    def __init__(self, code: str, message: str) -> None:
        """Formats the status name and the server's message."""
        super().__init__(f"{code}: {message}")
        self.code = code


class NoWorkerError(Exception):
    """An action did not finish within its timeout."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A server: grpc:// or grpcs:// and host:port.

    Attributes:
        url: its address.
        headers: sent with each call; the key is one of them.
        certificate: PEM of a CA to trust instead of the system's.
        client_certificate: PEM of a certificate and of its key, where the server authenticates its clients.
        instance: name of the instance on the server.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    certificate: bytes | None = None
    client_certificate: tuple[bytes, bytes] | None = field(default=None, repr=False)
    instance: str = ""

    @property
    def address(self) -> str:
        """Host and port."""
        scheme, _, rest = self.url.partition("://")
        return rest if ":" in rest.rpartition("]")[2] else f"{rest}:{443 if scheme == 'grpcs' else 80}"

    @property
    def is_encrypted(self) -> bool:
        """Whether calls use TLS."""
        return self.url.startswith("grpcs://")

    def channel(self, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
        """Opens a channel with these gRPC options."""
        if not self.is_encrypted:
            return grpc.insecure_channel(self.address, options)
        certificate, key = self.client_certificate or (None, None)
        credentials = grpc.ssl_channel_credentials(self.certificate, key, certificate)
        return grpc.secure_channel(self.address, credentials, options)


@dataclass(frozen=True, kw_only=True)
class TinyAction:
    """A command with few inputs.

    Attributes:
        arguments: the command and its arguments.
        properties: the platform that it requests, name to value.
        outputs: files that it writes.
        inputs: content of each file in its folder.
        seconds: time limit that it requests of the worker; 0 leaves it to the server.
    """

    arguments: Sequence[str]
    properties: Mapping[str, str]
    outputs: Sequence[str] = ()
    inputs: Mapping[str, bytes] = field(default_factory=dict)
    seconds: int = 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of an action."""

    exit_code: int
    stdout: str
    stderr: str
    output_paths: tuple[str, ...]
    seconds: float


class RemoteClient:
    """Calls the execution service and the cache of one deployment, which may have different addresses."""

    def __init__(self, executor: Endpoint, cache: Endpoint | None = None) -> None:
        """Opens the channels; gRPC connects at the first call."""
        self._executor, self._cache = executor, cache or executor
        self._channels = (self._executor.channel(), self._cache.channel())

    def close(self) -> None:
        """Closes both channels."""
        for channel in self._channels:
            channel.close()

    def capabilities(self, *, of_cache: bool = False, seconds: float) -> Any:
        """Returns the ServerCapabilities of the executor or the cache.

        Raises:
            RemoteError: the call failed.
        """
        endpoint = self._cache if of_cache else self._executor
        request = messages.GetCapabilitiesRequest(instance_name=endpoint.instance)
        answer = self._call(messages.GET_CAPABILITIES, request, of_cache=of_cache, seconds=seconds)
        return messages.ServerCapabilities.FromString(answer)

    def run(self, action: TinyAction, *, seconds: float) -> Outcome:
        """Runs an action, never from the cache.

        Args:
            action: what to run.
            seconds: how long to wait for its result, queueing included.

        Raises:
            NoWorkerError: it did not finish in time.
            RemoteError: the server refused it or failed.
        """
        started = time.monotonic()
        request = self._upload(action, seconds=seconds)
        response = self._execute(request, seconds=seconds)
        if response.status.code:
            raise RemoteError(_status_name(response.status.code), response.status.message)
        result = response.result
        return Outcome(
            exit_code=result.exit_code,
            stdout=self._text(result.stdout_raw, result.stdout_digest, seconds=seconds),
            stderr=self._text(result.stderr_raw, result.stderr_digest, seconds=seconds),
            output_paths=tuple(file.path for file in result.output_files),
            seconds=time.monotonic() - started,
        )

    def _upload(self, action: TinyAction, *, seconds: float) -> Any:
        platform = messages.platform_of(dict(action.properties))
        # Outputs in the fields of both protocol versions: each server reads those of its own.
        outputs = sorted(action.outputs)
        command = messages.Command(arguments=list(action.arguments), output_paths=outputs, output_files=outputs)
        command.platform.CopyFrom(platform)
        message = messages.Action(platform=platform, do_not_cache=True, salt=uuid.uuid4().bytes)
        if action.seconds:
            message.timeout.seconds = action.seconds
        directory = messages.Directory()
        for name, content in sorted(action.inputs.items()):
            directory.files.add(name=name, digest=messages.digest_of(content), is_executable=True)  # as Bazel's are
        command_bytes, root = command.SerializeToString(deterministic=True), directory.SerializeToString()
        message.command_digest.CopyFrom(messages.digest_of(command_bytes))
        message.input_root_digest.CopyFrom(messages.digest_of(root))
        action_bytes = message.SerializeToString(deterministic=True)
        upload = messages.BatchUpdateBlobsRequest(instance_name=self._cache.instance)
        for blob in (command_bytes, root, action_bytes, *action.inputs.values()):
            upload.requests.add(digest=messages.digest_of(blob), data=blob)
        answer = self._call(messages.BATCH_UPDATE_BLOBS, upload, of_cache=True, seconds=seconds)
        for each in messages.BatchUpdateBlobsResponse.FromString(answer).responses:
            if each.status.code:
                raise RemoteError(_status_name(each.status.code), each.status.message)
        return messages.ExecuteRequest(
            instance_name=self._executor.instance,
            skip_cache_lookup=True,
            action_digest=messages.digest_of(action_bytes),
        )

    def _execute(self, request: Any, *, seconds: float) -> Any:
        call = self._channels[0].unary_stream(messages.EXECUTE)
        try:
            for answer in self._answers(call, request, seconds=seconds):
                operation = messages.Operation.FromString(answer)
                if operation.done and operation.error.code:
                    raise RemoteError(_status_name(operation.error.code), operation.error.message)
                if operation.done:
                    return messages.ExecuteResponse.FromString(operation.response.value)
        except RemoteError as error:
            if error.code == "DEADLINE_EXCEEDED":
                raise NoWorkerError(f"the action did not finish within {seconds:g} seconds") from error
            raise
        raise RemoteError("UNAVAILABLE", "the server closed the call before the action finished")

    def _answers(self, call: Callable[..., Any], request: Any, *, seconds: float) -> Iterator[bytes]:
        try:
            yield from call(request.SerializeToString(), timeout=seconds, metadata=_metadata(self._executor))
        except grpc.RpcError as error:
            raise RemoteError(error.code().name, error.details()) from error

    def _call(self, method: str, request: Any, *, of_cache: bool, seconds: float) -> bytes:
        call = self._channels[of_cache].unary_unary(method)
        endpoint = self._cache if of_cache else self._executor
        try:
            return bytes(call(request.SerializeToString(), timeout=seconds, metadata=_metadata(endpoint)))
        except grpc.RpcError as error:
            raise RemoteError(error.code().name, error.details()) from error

    def _text(self, raw: bytes, digest: Any, *, seconds: float) -> str:
        if raw or not digest.size_bytes:
            return raw.decode(errors="replace")
        request = messages.BatchReadBlobsRequest(instance_name=self._cache.instance, digests=[digest])
        answer = self._call(messages.BATCH_READ_BLOBS, request, of_cache=True, seconds=seconds)
        return bytes(messages.BatchReadBlobsResponse.FromString(answer).responses[0].data).decode(errors="replace")


def _metadata(endpoint: Endpoint) -> list[tuple[str, str | bytes]]:
    request = messages.RequestMetadata(action_id="doctor", tool_invocation_id=str(uuid.uuid4()))
    request.tool_details.tool_name = "finetune-repo"
    return [*endpoint.headers.items(), (_METADATA_HEADER, request.SerializeToString())]


def _status_name(number: int) -> str:
    return next((code.name for code in grpc.StatusCode if code.value[0] == number), str(number))
