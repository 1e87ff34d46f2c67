# Names for scripts, and no more: each script says what it does and can be run by itself.

.PHONY: test demo rpm deb

test:
	tests/run

demo:
	tests/demo

rpm:
	packaging/build rpm

deb:
	packaging/build deb
