"""What runs inside the jail. The standard library alone; numpy and pandas are there for cells, not for us."""
