# Made by Cofferdam. Makes the network of its virtual machines of Hyper-V; once for this host, as administrator.
# The guest has a fixed address there, which is part of the image; the switch that Windows makes itself deals out others.
# Undone by: Remove-NetNat, Remove-VMSwitch, each with -Name 'Cofferdam'
#Requires -Version 5.1
#Requires -Modules Hyper-V
#Requires -RunAsAdministrator
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$switch = 'Cofferdam'
if (-not @(Get-VMSwitch | Where-Object -Property Name -EQ -Value $switch)) {
    New-VMSwitch -Name $switch -SwitchType Internal | Out-Null
}
$adapter = Get-VMNetworkAdapter -ManagementOS -SwitchName $switch
$interface = Get-NetAdapter | Where-Object -Property DeviceID -EQ -Value $adapter.DeviceId
if (-not @(Get-NetIPAddress -AddressFamily IPv4 | Where-Object -Property IPAddress -EQ -Value '10.0.2.2')) {
    New-NetIPAddress -InterfaceIndex $interface.ifIndex -IPAddress '10.0.2.2' -PrefixLength 24 | Out-Null
}
if (-not @(Get-NetNat | Where-Object -Property InternalIPInterfaceAddressPrefix -EQ -Value '10.0.2.0/24')) {
    New-NetNat -Name $switch -InternalIPInterfaceAddressPrefix '10.0.2.0/24' | Out-Null
}
