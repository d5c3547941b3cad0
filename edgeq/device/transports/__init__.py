"""What carries bytes and commands to a device: this host, ssh, adb, an emulated Arm."""
