"""The workers of several hosts: leases and mailboxes in Redis or Valkey."""
