"""Replicas that compute on one device slow each other down.

The rule: a device that others keep busy a share u of the time is 1 / (1 - u) times as slow
(processor sharing), for the part of a replica's time that it spends there. How busy a replica keeps
its devices follows from its replayed demand; without demand it does not keep them busy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fmedge.sched.provision.demand import Call
from fmedge.sched.provision.placing import Ground, PlacedReplica
from fmedge.sched.provision.score import Score, Speed

MOST_BUSY = 0.9
"""More than this others cannot take: whoever waits gets his turn."""


def device_shares(ground: Ground, replica: PlacedReplica) -> dict[str, float]:
    """The part of a request's time that each device computes, summing to 1."""
    problem = ground.problem(replica.model, replica.choice)
    shares: dict[str, float] = {}
    for part in replica.ranges:
        cost_s = problem.cost_s[
            0, part.first_layer : part.last_layer + 1, ground.index[part.device]
        ]
        shares[part.device] = float(cost_s.sum())
    total = sum(shares.values()) or 1.0
    return {device: cost_s / total for device, cost_s in shares.items()}


def busy_share(speed: Speed, index: int, load: Score, calls: Sequence[Call]) -> float:
    """Of the workload's time, how much a replica computes."""
    duration_s = calls[-1].arrival_s
    own = [
        (call, got)
        for call, got in zip(calls, load.served, strict=True)
        if got.replica == index and got.e2e_s < float("inf")
    ]
    if not own or duration_s <= 0:
        return 0.0
    decoding_s = sum(got.e2e_s - got.ttft_s for _, got in own)
    beside = min(max(1.0, decoding_s / duration_s), float(speed.engine.slots))
    num_output = sum(call.num_output for call, _ in own)
    num_prompt = sum(call.num_prompt for call, _ in own)
    depth = (num_prompt + num_output / 2) / len(own)
    step_s = speed.steps.step_s(0, beside, beside * depth)
    chunk = min(speed.engine.ubatch_size, max(1.0, num_prompt / len(own)))
    prefill_s = speed.steps.step_s(chunk, 0, 0, chunk * chunk / 2) / chunk
    return min(1.0, (num_output * step_s / beside + num_prompt * prefill_s) / duration_s)


def slowdowns(
    shares: Mapping[int, Mapping[str, float]], busy: Mapping[int, float], devices: Sequence[str]
) -> dict[int, dict[str, float]]:
    """By replica and device: how many times longer it computes there for the others' sake.

    shares: replica -> device -> part of its time; busy: replica -> share of the time.
    """
    taken = dict.fromkeys(devices, 0.0)
    for replica, own in shares.items():
        for device, share in own.items():
            taken[device] += busy[replica] * share
    return {
        replica: {
            device: 1
            / (1 - min(MOST_BUSY, max(0.0, taken[device] - busy[replica] * own.get(device, 0.0))))
            for device in devices
        }
        for replica, own in shares.items()
    }
