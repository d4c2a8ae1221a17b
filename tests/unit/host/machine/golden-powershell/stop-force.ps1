# cofferdam-work: made by Cofferdam. Stops its virtual machine of Hyper-V and removes it; its data disk stays.
#Requires -Version 5.1
#Requires -Modules Hyper-V
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$name = 'cofferdam-work'
$mark = 'Cofferdam instance C:\Users\a b\.local\state\cofferdam\instances\work'
$folder = 'C:\Users\a b\.local\state\cofferdam\instances\work\hyperv'

foreach ($vm in @(Get-VM | Where-Object -Property Name -EQ -Value $name | Where-Object -Property Notes -EQ -Value $mark)) {
    if ("$($vm.State)" -ne 'Off') {
        Stop-VM -VM $vm -TurnOff -Force
    }
    Remove-VM -VM $vm -Force
}
foreach ($path in (Join-Path $folder 'root.vhdx'), (Join-Path $folder 'handover.vhdx'), 'C:\Users\a b\.local\state\cofferdam\instances\work\hyperv\handover.vhd') {
    if (Test-Path -LiteralPath $path) { Remove-Item -LiteralPath $path -Force }
}
