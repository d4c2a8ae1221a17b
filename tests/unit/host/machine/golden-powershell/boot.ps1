# cofferdam-work: made by Cofferdam, anew at each boot. Boots a virtual machine of Hyper-V (Generation 2).
# To be run by a member of `Hyper-V Administrators`, or as administrator.
#Requires -Version 5.1
#Requires -Modules Hyper-V
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$name = 'cofferdam-work'
$mark = 'Cofferdam instance C:\Users\a b\.local\state\cofferdam\instances\work'
$folder = 'C:\Users\a b\.local\state\cofferdam\instances\work\hyperv'
$root = Join-Path $folder 'root.vhdx'
$config = Join-Path $folder 'handover.vhdx'

# What an earlier machine has left is removed; one that somebody else made is left alone.
foreach ($old in @(Get-VM | Where-Object -Property Name -EQ -Value $name)) {
    if ($old.Notes -ne $mark) { throw "there is a virtual machine $name that is not Cofferdam's; rename it" }
    if ("$($old.State)" -ne 'Off') { throw "the virtual machine $name is not off but $($old.State)" }
    Remove-VM -VM $old -Force
}
foreach ($path in $root, $config) {
    if (Test-Path -LiteralPath $path) { Remove-Item -LiteralPath $path -Force }
}

$vm = $null
try {
    # The image is never written to: what the machine writes there is gone at its next boot.
    New-VHD -Path $root -ParentPath 'D:\images\cofferdam-0.1.0-default.vhdx' -Differencing | Out-Null
    $data = 'C:\Users\a b\.local\state\cofferdam\instances\work\hyperv\data.vhdx'
    if (-not (Test-Path -LiteralPath $data)) {
        New-VHD -Path $data -SizeBytes 21474836480 -Dynamic | Out-Null
    } elseif ((Get-VHD -Path $data).Size -lt 21474836480) {
        Resize-VHD -Path $data -SizeBytes 21474836480
    }
    # Keys and settings for the guest, which reads this disk once and takes it off.
    Convert-VHD -Path 'C:\Users\a b\.local\state\cofferdam\instances\work\hyperv\handover.vhd' -DestinationPath $config -VHDType Dynamic
    Remove-Item -LiteralPath 'C:\Users\a b\.local\state\cofferdam\instances\work\hyperv\handover.vhd' -Force

    $vm = New-VM -Name $name -Generation 2 -MemoryStartupBytes 2147483648 -NoVHD -Path $folder -SwitchName 'Cofferdam'
    $settings = @{
        Notes = $mark
        ProcessorCount = 4
        CheckpointType = 'Disabled'
        AutomaticStartAction = 'Nothing'
        AutomaticStopAction = 'ShutDown'
    }
    Set-VM -VM $vm @settings
    # Free memory goes back to Windows; the guest never gets more than it started with.
    Set-VMMemory -VM $vm -DynamicMemoryEnabled $true -MinimumBytes 536870912 -StartupBytes 2147483648 -MaximumBytes 2147483648

    # The guest knows the disks by these places.
    $first = Add-VMHardDiskDrive -VM $vm -ControllerType SCSI -ControllerNumber 0 -ControllerLocation 0 -Path $root -Passthru
    Add-VMHardDiskDrive -VM $vm -ControllerType SCSI -ControllerNumber 0 -ControllerLocation 1 -Path $data
    Add-VMHardDiskDrive -VM $vm -ControllerType SCSI -ControllerNumber 0 -ControllerLocation 2 -Path $config
    # Hyper-V's firmware trusts Microsoft's keys and takes no others: this kernel is not signed with one.
    Set-VMFirmware -VM $vm -EnableSecureBoot Off -BootOrder $first

    Set-VMNetworkAdapter -VM $vm -MacAddressSpoofing Off -DhcpGuard On -RouterGuard On
    Set-VMComPort -VM $vm -Number 1 -Path '\\.\pipe\cofferdam-work'
    Start-VM -VM $vm
} catch {
    if ($vm) {
        Stop-VM -VM $vm -TurnOff -Force -ErrorAction SilentlyContinue
        Remove-VM -VM $vm -Force
    }
    foreach ($path in $root, $config, 'C:\Users\a b\.local\state\cofferdam\instances\work\hyperv\handover.vhd') {
        if (Test-Path -LiteralPath $path) { Remove-Item -LiteralPath $path -Force }
    }
    throw
}
