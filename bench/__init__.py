"""The figures README quotes, from one command on one machine: `make bench`."""
