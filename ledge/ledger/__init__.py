"""A job's figures for people: which of an ad, in which units, and what they mean. No root."""
