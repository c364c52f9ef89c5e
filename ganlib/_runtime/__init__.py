"""The machine: device, precision, threads, fast kernels, safe files, progress."""
