"""The page's database: what the topics say, in SQLite, with the positions up to which they have been read."""
