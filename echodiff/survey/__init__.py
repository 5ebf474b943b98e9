"""Compare generators of one anatomy on fidelity, utility and privacy, and on another scanner."""
