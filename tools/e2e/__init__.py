"""Trying the app out on this machine: workers as processes, topics read back, results recounted."""
