"""Following a job's processes where no control group does.

A process beside the wrapper, the tracker, looks at them again and again with psutil. The wrapper
waits for nothing but the job's end, and a fault of the tracker's costs figures and no job.

    start       in the wrapper: starts the tracker, has its last words
    process     the tracker: one look after the other, as often as they may cost
    views       which processes are the job's
    membership  the rules for those that have left the tree
    seen        what the looks have added up to, and how the tracker tells it

What the tracker cannot see in time, the kernel knows in part: ledge/job/waited_for.py.
"""
