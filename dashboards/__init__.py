"""What people see: pages over a published, read-only snapshot. No SQL and no arithmetic in a page."""
