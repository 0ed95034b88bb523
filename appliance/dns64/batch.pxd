# batch.pyx shows nothing to other compiled modules.
