"""`inv boot --hyperv --native`: a Generation 2 virtual machine of Hyper-V, by scripts for PowerShell. Windows only."""
