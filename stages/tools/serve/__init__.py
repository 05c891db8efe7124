"""`bert-lora serve`: one model, loaded at the start, answers over HTTP, with a page for people.

run       what to serve and where; connections, signals, the end
envelope  what holds for every request: names, sizes, deadlines, headers, counts
app       the paths: what each takes, checks and answers; the page lies in static/
batcher   texts that arrive together are computed together
explain   which words carried an answer
"""
