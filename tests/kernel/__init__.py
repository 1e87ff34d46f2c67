"""Tests of the wrapper around real commands on this machine."""
