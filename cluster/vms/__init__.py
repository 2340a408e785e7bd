"""Studies on virtual machines: profiles of kind `vms`, and the files of `ray up` and SkyPilot made of them."""
