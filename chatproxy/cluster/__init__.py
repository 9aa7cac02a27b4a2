"""Who has what: on this worker, on this host, on all hosts."""
