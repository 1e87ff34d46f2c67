"""The tests: unit (parts), kernel (the wrapper, natively), pool (real HTCondor)."""
