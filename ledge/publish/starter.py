"""Reporting through the starter, if it will have it: figures must not cost the job anything."""

from __future__ import annotations

from ledge.publish.chirp import ChirpError, Starter, publish

# HTCondor's default of CHIRP_DELAYED_UPDATE_PREFIX lets this pass (HTCondor manual, "Chirp"); what
# a job can read it can also forge, so this is reported, not proven.
REPORTED = "ChirpLedge"


def report_expressions(chirp_config: bytes | None, expressions: dict[str, str]) -> None:
    """Report attributes, ClassAd expressions by names without the prefix.

    `chirp_config` are the contents of .chirp.config, None where there is none.
    """
    if chirp_config is None:
        return
    try:
        prefixed = {REPORTED + name: value for name, value in expressions.items()}
        publish(Starter(chirp_config), prefixed)
    except ChirpError:
        pass  # the figures stay undefined, which is what they are
