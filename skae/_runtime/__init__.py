"""The machine and its global state: devices, threads, modes, random numbers, ranks."""
