"""The cluster: who has what, on this worker, on this host, on all hosts.

From what the workers share up to what they agree on:

    peers           what every way to find the other workers can do: leases, and requests
    local, redis    two such ways: one host, and several
    coordinator     leases and requests, used from many threads
    registry        the sessions of this worker; starts and Stops, wherever they land
    session_table   what an id stands for here: live, retained (retention), or stopped early
                    (early_stops)
    limits          how many sessions may run at once
    rpc             what this worker is asked
    remote_readers  the readers of its sessions that are on other workers
"""
