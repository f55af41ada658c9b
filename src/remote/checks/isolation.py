"""Doctor's check of what an action can reach: the network, other processes, the worker's copy of its inputs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from src.remote.checks.findings import Finding
from src.remote.reapi.client import NoWorkerError, RemoteClient, RemoteError, TinyAction

_CHECK = "isolation"
_INPUT = "doctor-input"
# Hosts and ports of docker/compose.yaml and docker/kubernetes: the CAS and its port for results, the scheduler and its
# port for workers.
_SERVERS = ("cas/50051", "cas/50053", "scheduler/50052", "scheduler/50061")
# bash alone, which every lane needs, and stat: each line is a name and its value. The input's content is nobody else's.
_PROBE = f"""
while IFS=: read -r name rest; do
  [[ -z $rest || $name == *lo || $name == *'|'* ]] || echo "interface ${{name// /}}"
done < /proc/net/dev
for server in {" ".join(_SERVERS)}; do
  timeout 2 bash -c ": < /dev/tcp/$server" && echo "server $server"
done
for folder in /proc/[0-9]*; do
  pid=${{folder#/proc/}}
  [[ $pid == 1 || $pid == $$ ]] || {{ read -r name < "$folder/comm" && echo "process $name"; }}
done
if [[ $(stat -c %h {_INPUT}) -gt 1 ]] && chmod u+w {_INPUT} && echo changed > {_INPUT}; then echo "changes inputs"; fi
echo "asked everything"
"""


def check_isolation(client: RemoteClient, properties: Mapping[str, str], *, seconds: float) -> Finding:
    """Runs an action that tries what an action should not be able to do."""
    action = TinyAction(
        arguments=("bash", "-c", f"exec 2> /dev/null\n{_PROBE}"),
        properties=properties,
        # Bazel's client sends PATH; without it a shell has a default of its own.
        inputs={_INPUT: uuid.uuid4().bytes},
    )
    try:
        lines = client.run(action, seconds=seconds).stdout.splitlines()
    except (NoWorkerError, RemoteError) as error:
        return Finding.error(_CHECK, f"no action answers what it can reach: {error}")
    return isolation_finding(lines)


def isolation_finding(lines: list[str]) -> Finding:
    """Returns what the probe's output says."""
    pairs = [line.partition(" ")[::2] for line in lines]
    seen = {name: sorted({value for key, value in pairs if key == name}) for name, _ in pairs}
    faults = []
    if "server" in seen:
        faults.append(f"connects to {', '.join(seen['server'])}")
    elif "interface" in seen:
        faults.append(f"has the worker's network ({', '.join(seen['interface'])})")
    if "changes" in seen:
        faults.append("can change the worker's copy of its inputs, which other actions get")
    if "process" in seen:
        faults.append(f"sees processes that are not its own ({', '.join(seen['process'][:5])})")
    if "asked" not in seen:
        return Finding(check=_CHECK, level="warning", symptom="the action that asks what it can reach did not finish")
    if not faults:
        return Finding.ok(_CHECK, "an action has no network, its own processes and its own inputs")
    return Finding(
        check=_CHECK,
        level="warning",
        symptom=f"an action {'; it '.join(faults)}",
        cause="the worker starts actions without docker/run_action, or user namespaces are refused to it: its log says "
        "which when it starts",
        remedy="start workers as docker/compose.yaml does, with docker/seccomp_worker.json as seccomp profile "
        "(docker/README.md); until then let in only clients whose actions you trust",
    )
