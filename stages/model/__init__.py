"""The classifier and its parts: loading, head, methods, saved adapters, device, tokens."""
