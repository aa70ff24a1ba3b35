"""What the product promises in figures, measured: each module prints JSON lines, the totals last."""
