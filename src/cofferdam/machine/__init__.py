"""The virtual machine: its command line, accelerators, life cycle, readiness and credentials."""
