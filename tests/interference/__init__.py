"""Two jobs on one node, one of which tries whatever it can against the other."""
