"""The recorder: carries jobs' figures to their schedds, as the attribute Ledge of the job ad.

A process of its own, with HTCondor's user's rights and a token, beside ledged, which is root and
has none: ledged leaves figures in a spool directory (spool.py), the recorder takes them from there.
What it delivers when is decided in schedule.py, and done in a process that can be killed
(worker.py), the only one that loads htcondor2 (bindings.py). docs/recording.md says what comes of
it, and what a pool has to allow.
"""
