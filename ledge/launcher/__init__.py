"""The launcher: a fork server beside ledged that builds a job's namespaces and becomes the job.

It has root's rights until it drops to the job's user, and nothing else: few imports, no secrets,
no policy. What it is stripped of every job would be stripped of, so it stays as HTCondor's starter
is, while the daemon proper gives up what it can.

    server.py     waits for ledged's orders, and forks
    likeness.py   what the kernel says of the wrapper, and the job is to have too
    process.py    the forked process: from root to the user, from there to init
"""
