"""A job's network traffic, counted by the kernel: eBPF programs on the job's control group."""
