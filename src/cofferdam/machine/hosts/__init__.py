"""What differs between the hosts QEMU runs on, beyond files and processes: traps, features that must be on, Hyper-V itself."""
