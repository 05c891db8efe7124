"""Optional speed-ups, all behind one explicit call; nothing else depends on them."""
