"""Running programs for other machines: under QEMU, and counting their instructions."""
