"""Random situations of real sites: each ends with every good row counted, or with one clear line and a failed exit."""
