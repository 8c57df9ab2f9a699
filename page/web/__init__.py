"""What a browser gets: views, forms, exports, the stream of changes."""
