"""HTTP exchanges that can be aborted in every phase. Nothing here knows what a chat is.

exchange         one request and its response; the AbortHandle of its connection
dialer, proxies  a TCP connection to a host: straight, or through a SOCKS proxy
connection       its way from the dialer to the pool and back (the theory of operation)
pool             the transport adapter of requests
http1            heads and the chunked coding
content_coding   gzip and deflate
response         a response, read from its connection through these
failures         what becomes of an error
"""
