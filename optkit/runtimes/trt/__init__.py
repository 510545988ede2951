"""What the pass `tensorrt` and the runtime `tensorrt` share: the library, profiles, engines."""
