"""Two sets of output topics on one cluster, held against each other: `faust -A app parity --live`."""
