"""What this node can do, found out by doing it.

ledged advertises it (ledge/daemon/advertisement.py), condor_ledge doctor explains what is missing.

attempt.py      an operation in a process of its own, with a time limit
namespaces.py   a job's namespaces and mounts, by root and by a user
groups.py       a control group where HTCondor makes its jobs', limits and figures in it
network.py      the eBPF program that counts traffic, attached to such a group
abilities.py    all of it, and the machine attributes that say so

Nothing is left behind, but that controllers are on in the unit of HTCondor's: it has them switched
on itself with its first job.
"""
