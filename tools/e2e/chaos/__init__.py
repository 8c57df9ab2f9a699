"""`make chaos`: break everything while a log of known truth is being read, and recount what came of it."""
