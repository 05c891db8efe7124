"""What stage `compare` shows: `gather` fills `results`; figures, page and card show them."""
