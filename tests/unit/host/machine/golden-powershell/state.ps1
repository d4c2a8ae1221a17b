# cofferdam-work: made by Cofferdam. Prints the state of its virtual machine of Hyper-V; nothing when there is none.
#Requires -Version 5.1
#Requires -Modules Hyper-V
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$name = 'cofferdam-work'
$mark = 'Cofferdam instance C:\Users\a b\.local\state\cofferdam\instances\work'
foreach ($vm in @(Get-VM | Where-Object -Property Name -EQ -Value $name | Where-Object -Property Notes -EQ -Value $mark)) {
    "$($vm.State)"
}
