"""One row of the table each: what is compared, how, and what it must reach."""
