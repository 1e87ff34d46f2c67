"""A job and what is with it in its namespaces; the launcher starts it so, or the wrapper itself.

    inheritance   command, environment, signals, session: as if the starter had executed it
    execution     why a command could not be executed
    isolation     from a plan to namespaces, mounts, control group on this node
    init          PID 1: starts the job, reaps, kills what is left
    leaf          the job's own control group; leaf_v1 where the node has version 1
    logical_io    what its processes read and wrote, from init's own account
    waited_for    what the kernel adds up of them, where there is no control group
    remedies      what an admin can do about a step that failed

and what goes over the border between them and the wrapper:

    handover      command and descriptors, to the launcher
    report        what init tells, and the job's ending
    relay         chirp, for a job with a network of its own
"""
