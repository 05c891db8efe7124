"""From files to rows: reading tables, checks, labels, drawing the splits, the prepared rows."""
