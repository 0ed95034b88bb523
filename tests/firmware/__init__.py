"""Updates of the built image in QEMU, started by UEFI: by hand, cut off, tampered with, and falling back."""
