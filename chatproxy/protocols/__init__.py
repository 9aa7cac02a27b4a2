"""How a question is read from a client, and how an answer is encoded for it. No I/O."""
