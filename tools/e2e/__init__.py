"""End-to-end runs on this machine: workers as processes, output topics read back and compared with an oracle."""
