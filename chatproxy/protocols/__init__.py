"""How a question comes from a client, and how an answer is spoken to it. Bytes in, bytes out."""
