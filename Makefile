# Names for scripts, and no more: each script says what it does and can be run by itself.

.PHONY: test demo

test:
	tests/run

demo:
	tests/demo
