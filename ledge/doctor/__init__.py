"""condor_ledge doctor: what is wrong with a node, what that costs, and what mends it.

report.py          what was found of one subject
configuration.py   the configuration in force, as HTCondor itself reads it
node.py            what all checks ask for: the roles of this machine, and who ledged is
examination.py     the checks in their order
htcondor.py, service.py, kernel.py, disks.py, selinux.py      the checks

A check does what it is about (ledge/preflight), leaves nothing behind, and says what a job's hold
reason or ledged's log would say.
"""
