"""`bert-lora serve`: one model, loaded at the start, answers over HTTP, with a page for people.

run       what to serve and where; connections, signals, the end
app       the paths: what each takes, checks and answers; texts that wait are computed together
static/   the page
"""
