# Made by Cofferdam. Prints as JSON what this host has of that which a virtual machine of Hyper-V needs; changes nothing.
#Requires -Version 5.1
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$user = New-Object Security.Principal.WindowsPrincipal ([Security.Principal.WindowsIdentity]::GetCurrent())
# By its number: the group's name is translated.
$group = New-Object Security.Principal.SecurityIdentifier 'S-1-5-32-578'
$service = Get-Service -Name vmms -ErrorAction SilentlyContinue
$module = [bool](Get-Module -ListAvailable -Name Hyper-V)
$allowed = $user.IsInRole($group) -or $user.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)

$switch = $false
if ($module -and $service -and $allowed) {
    $switch = [bool]@(Get-VMSwitch | Where-Object -Property Name -EQ -Value 'Cofferdam')
}
$addresses = @(Get-NetIPAddress -AddressFamily IPv4 | Where-Object -Property IPAddress -EQ -Value '10.0.2.2')
$nat = @(Get-NetNat -ErrorAction SilentlyContinue | Where-Object -Property InternalIPInterfaceAddressPrefix -EQ -Value '10.0.2.0/24')
$routes = @(Get-NetRoute -DestinationPrefix '0.0.0.0/0' -ErrorAction SilentlyContinue | Sort-Object -Property RouteMetric)
$resolvers = @($routes | ForEach-Object {
    Get-DnsClientServerAddress -InterfaceIndex $_.InterfaceIndex -AddressFamily IPv4 -ErrorAction SilentlyContinue
} | ForEach-Object { $_.ServerAddresses } | Select-Object -Unique)

[ordered]@{
    module = $module
    service = [bool]($service -and "$($service.Status)" -eq 'Running')
    allowed = [bool]$allowed
    switch = $switch
    address = [bool]$addresses
    nat = [bool]$nat
    resolvers = [string[]]$resolvers
} | ConvertTo-Json -Compress
