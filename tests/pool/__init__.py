"""A real HTCondor pool in a virtual machine, for tests."""
