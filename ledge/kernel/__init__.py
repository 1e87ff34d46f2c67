"""What the kernel offers, under the kernel's names: no policy, no logging."""
