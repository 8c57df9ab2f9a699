"""Charts as SVG, drawn by the server: no script, no style attribute, and each with its numbers as a table."""
