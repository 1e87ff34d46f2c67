"""condor-ledge: every HTCondor job on a ledge of its own, with its exact usage in the job ad."""

__version__ = "0.1.0"
