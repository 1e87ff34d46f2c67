"""What a job's ad has from its start on: its namespaces, and the limits that hold. No I/O."""

from __future__ import annotations

from ledge.daemon.networks import LaunchNetwork
from ledge.limits.enforcement import Receipt
from ledge.plan.plan import Plan
from ledge.usage.attributes import isolation_attributes


def attributes_of(plan: Plan, receipt: Receipt, network: LaunchNetwork) -> dict[str, str]:
    """The attributes, named without a prefix."""
    values = {**dict.fromkeys(receipt.remarks, ""), **receipt.enforced}
    limits = [name + (f"={value}" if value else "") for name, value in values.items()]
    remarks = [f" ({receipt.remarks[name]})" if name in receipt.remarks else "" for name in values]
    holds = ", ".join(map("".join, zip(limits, remarks)))
    lacks = "; ".join([f"{name}: {reason}" for name, reason in receipt.not_enforced.items()])
    # Both in any case: what is not said here a job could say by chirp.
    told = {"Enforced": holds or "none", "NotEnforced": lacks or "none"}
    namespaces = (*plan.namespaces, *network.namespaces())
    isolation = isolation_attributes(namespaces, mounts=plan.mounts)
    return {**isolation, **network.attributes, **told}
