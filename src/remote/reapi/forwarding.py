"""Forwards gRPC calls to another server as bytes, without knowing their methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import grpc

# gRPC sets these itself, so they are not forwarded.
_HOP_HEADERS = {"user-agent", "te", "content-type"}
NO_SIZE_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def forward(
    upstream: grpc.Channel,
    method: str,
    requests: Iterator[bytes],
    context: grpc.ServicerContext,
    *,
    replaced: Mapping[str, str | None],
) -> Iterator[bytes]:
    """Calls the other server and yields its answers; its errors become the caller's.

    Args:
        upstream: channel to the other server.
        method: path of the method.
        requests: the caller's messages.
        context: of the call.
        replaced: headers to send in place of the caller's; None drops one.
    """
    headers = [pair for pair in context.invocation_metadata() if _is_forwarded(pair[0]) and pair[0] not in replaced]
    headers += [(name, value) for name, value in replaced.items() if value is not None]
    answers = upstream.stream_stream(method)(requests, metadata=headers)
    context.add_callback(answers.cancel)
    try:
        yield from answers
        context.set_trailing_metadata(tuple(answers.trailing_metadata() or ()))
    except grpc.RpcError as error:
        details = tuple(p for p in error.trailing_metadata() or () if p[0] == "grpc-status-details-bin")
        context.set_trailing_metadata(details)
        context.abort(error.code(), error.details() or "the server ended the call")


def _is_forwarded(header: str) -> bool:
    return not header.startswith((":", "grpc-")) and header not in _HOP_HEADERS
