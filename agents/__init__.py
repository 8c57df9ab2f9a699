"""One verb a file: plain async generators over batches. State is handed in; they yield, they never send."""
