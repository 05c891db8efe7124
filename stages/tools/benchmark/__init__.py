"""The benchmark's contenders and their timing."""
