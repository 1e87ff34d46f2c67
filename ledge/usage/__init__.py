"""What a job used: from the texts of control files to figures to attributes. No I/O but in reading.

    usage          figures with names and units, and why others are missing
    of_cgroup2, of_cgroup1, of_processes      the figures, by what accounts for the job
    figures        what these make figures with
    reading        one reading of a control group that is there
    rates          of a job that runs, from two readings
    attributes     the names under which all this stands in an ad
"""
