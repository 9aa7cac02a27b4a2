"""Records: a row in a database for each answer, and what is told from them."""
