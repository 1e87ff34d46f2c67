"""The wrapper: the process that HTCondor knows as the job, around it from its start to its end.

    main          HTCondor's USER_JOB_WRAPPER
    universe      which of the commands that come are jobs for us
    by_daemon     a job that ledged starts
    session       the sshd of condor_ssh_to_job, into its job
    in_process    a job that is started without ledged
    monitor       passes signals on, waits, ends as the job ended
    settle        the last reading, and publishing it
    checkpoints   adding up the starts of a self-checkpointing job
    refusal       how the starter is told that the wrapper failed, and not the job
"""
