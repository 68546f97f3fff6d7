"""Networks that are built in, with the key names of torchvision's state dicts."""
