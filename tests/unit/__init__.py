"""Tests of the parts, without a pool and mostly without root."""
