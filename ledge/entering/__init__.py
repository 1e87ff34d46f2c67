"""A command inside a running job: its namespaces, its control group, its user.

    relay (outside, root)             the caller's terminal or pipes; ends as the command ended
      └ waiter (the job's group)      the job's user by then; not in the job's PID namespace
          └ the command               PID 1's namespaces; dies with the job

The order of the steps is the point, as in ledge/launcher/process.py. What root opens it opens
before (place.py). Then the waiter is the job's user, neither traceable nor readable, and only then
does it enter anything (process.py); in the job's PID namespace nothing appears before all rights
have gone.

The waiter waits so that nobody else need: the end of a PID namespace waits for whoever was put
there from outside to be reaped, and a relay that is stopped at its terminal would hold the job up.

A session of condor_ssh_to_job enters in the same way (session.py), with its wrapper for the relay.
"""
