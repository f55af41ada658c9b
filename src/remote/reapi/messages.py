"""The remote execution API: its messages, compiled from reapi.proto on import, and the paths of its methods.

No generated code is checked in: grpcio-tools brings protoc, and the messages are plain protobuf classes in a pool of
their own, since other packages may register the same messages in protobuf's shared pool: the wire carries no names.
"""

from __future__ import annotations

import hashlib
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory
from grpc_tools import protoc

_PROTO = Path(__file__).with_name("reapi.proto")
_V2 = "/build.bazel.remote.execution.v2."

GET_CAPABILITIES = _V2 + "Capabilities/GetCapabilities"
EXECUTE = _V2 + "Execution/Execute"
BATCH_UPDATE_BLOBS = _V2 + "ContentAddressableStorage/BatchUpdateBlobs"
BATCH_READ_BLOBS = _V2 + "ContentAddressableStorage/BatchReadBlobs"
UPDATE_ACTION_RESULT = _V2 + "ActionCache/UpdateActionResult"
PUBLISH_LIFECYCLE_EVENT = "/google.devtools.build.v1.PublishBuildEvent/PublishLifecycleEvent"
PUBLISH_EVENT_STREAM = "/google.devtools.build.v1.PublishBuildEvent/PublishBuildToolEventStream"

# The type URLs of what an Operation holds.
EXECUTE_RESPONSE_TYPE = "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteResponse"
EXECUTE_METADATA_TYPE = "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteOperationMetadata"

# ExecutionStage.QUEUED.
QUEUED = 2


def _load_messages() -> dict[str, Any]:
    """Compiles reapi.proto; returns its message classes by name."""
    includes = files("grpc_tools") / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "descriptors"
        arguments = ["protoc", f"-I{_PROTO.parent}", f"-I{includes}", f"--descriptor_set_out={output}", str(_PROTO)]
        if protoc.main(arguments):
            raise RuntimeError(f"protoc cannot read {_PROTO}")
        described = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for module in (any_pb2, duration_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for file in described.file:
        pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{message.name}"))
        for file in described.file
        for message in file.message_type
    }


MESSAGES = _load_messages()

Action: Any = MESSAGES["Action"]
ActionResult: Any = MESSAGES["ActionResult"]
BatchReadBlobsRequest: Any = MESSAGES["BatchReadBlobsRequest"]
BatchReadBlobsResponse: Any = MESSAGES["BatchReadBlobsResponse"]
BatchUpdateBlobsRequest: Any = MESSAGES["BatchUpdateBlobsRequest"]
BatchUpdateBlobsResponse: Any = MESSAGES["BatchUpdateBlobsResponse"]
Command: Any = MESSAGES["Command"]
Digest: Any = MESSAGES["Digest"]
Directory: Any = MESSAGES["Directory"]
Empty: Any = MESSAGES["Empty"]
ExecuteOperationMetadata: Any = MESSAGES["ExecuteOperationMetadata"]
ExecuteRequest: Any = MESSAGES["ExecuteRequest"]
ExecuteResponse: Any = MESSAGES["ExecuteResponse"]
GetCapabilitiesRequest: Any = MESSAGES["GetCapabilitiesRequest"]
Operation: Any = MESSAGES["Operation"]
Platform: Any = MESSAGES["Platform"]
PublishBuildToolEventStreamRequest: Any = MESSAGES["PublishBuildToolEventStreamRequest"]
PublishBuildToolEventStreamResponse: Any = MESSAGES["PublishBuildToolEventStreamResponse"]
RequestMetadata: Any = MESSAGES["RequestMetadata"]
ServerCapabilities: Any = MESSAGES["ServerCapabilities"]
UpdateActionResultRequest: Any = MESSAGES["UpdateActionResultRequest"]


def digest_of(content: bytes) -> Any:
    """Returns the Digest of a blob (SHA-256)."""
    return Digest(hash=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


def properties_of(command: Any, action: Any) -> dict[str, str]:
    """Returns the platform that an action requests, name to value. Before version 2.2 only the command held it."""
    platform = action.platform if action.HasField("platform") else command.platform
    return {pair.name: pair.value for pair in platform.properties}


def platform_of(properties: dict[str, str]) -> Any:
    """Returns the Platform message of properties, sorted by name as the protocol requires."""
    platform = Platform()
    for name in sorted(properties):
        platform.properties.add(name=name, value=properties[name])
    return platform
