"""The policy of a node: what its admin wants done for a job, as YAML with ClassAd expressions.

    errors       the one error, which carries file and line
    quantities   units, as people write them
    keys         what may stand in a policy, and the values of each key
    expressions  ClassAd expressions and ads: the only module that imports classad2
    document     YAML to a checked policy
    decision     a policy and two ads to a plan, or to a refusal
    wire         the messages between the daemon and the evaluator
    sandbox      the evaluator: the process in which hostile ads meet classad2
    evaluator    the daemon's end of it

docs/policy.md is the reference for admins. Neither yaml nor classad2 is imported before it is
needed, so that every module can be imported where they are not installed.
"""
