"""What the tests share: servers as real processes, upstreams, clients, and peers in memory."""
