"""The server of `bert-lora serve`: its interface, its page, and how requests are batched.

run       the socket, and how the process ends
api       the paths and what each of them answers
service   all that a running server has
envelope  what holds for every request: headers, times, errors, the end of the server
body      from the bytes of a request to checked texts
schema    requests and answers as types
batching  requests that arrive together are computed together
answers   from logits to labels and probabilities
page      the files of the page, and the page on the interface
meters    what /metrics reports
limits    how much a client may ask for
"""
