"""Passes calls of gRPC on to another server, as bytes: the methods need not be known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import grpc

# gRPC keeps these for itself: they are not passed on.
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
    """Calls the other server and yields what it answers; its errors become the caller's.

    Args:
        upstream: the other server.
        method: path of the method.
        requests: what the caller sends.
        context: of the call.
        replaced: headers that are sent with another value than the caller's; None leaves one out.
    """
    headers = [pair for pair in context.invocation_metadata() if _travels(pair[0]) and pair[0] not in replaced]
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


def _travels(header: str) -> bool:
    return not header.startswith((":", "grpc-")) and header not in _HOP_HEADERS
