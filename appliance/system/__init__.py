"""The box beside its network: certificate, passwords, health."""
