"""`make demo`: real students through the whole pipeline, live on a terminal."""
