"""The plan: what is to be done for one job. No kernel, no I/O but reading the admin's file.

    plan       what a plan has, and the built-in one
    limits     what a job may use, as a plan states it
    document   a plan from JSON, checked, and the JSON of a plan
"""
