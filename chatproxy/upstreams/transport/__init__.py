"""HTTP connections that can be aborted in every phase. Nothing here knows what a chat is."""
