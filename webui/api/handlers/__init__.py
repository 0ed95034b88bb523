"""What the routes do; a module for each part of the box. Each has its part of the table: ``ROUTES``."""
