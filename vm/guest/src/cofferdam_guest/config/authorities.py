"""Where the VM's certificate authorities are: the image's and those of the boot, in a file that containers may mount."""

BUNDLE = "/run/cofferdam/ca.pem"
