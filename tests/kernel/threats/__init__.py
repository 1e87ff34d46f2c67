"""What stops an attacker: the tests that docs/threats.md names, against the real ledged."""
