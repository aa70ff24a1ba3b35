"""What the offline model writes into its cells. Each module is run twice: imported here by tests, and as text in the jail."""
