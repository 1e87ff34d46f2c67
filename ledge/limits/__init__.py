"""A plan's limits on a job's slice: set as root, read back, and why one does not hold.

    enforcement   writes them, from ledge/plan/limits.py, and gives a receipt
    cpusets       which CPUs a job gets for itself alone
    delegation    what systemd delegated to HTCondor, above the slices
    remedies      what an admin can do about a limit that cannot be set
"""
