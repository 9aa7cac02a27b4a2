"""Flask: the routes of each protocol, the chat page, access tokens."""
