"""What stage `compare` shows: it fills `results`; figures and page show them."""
