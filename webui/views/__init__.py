"""The pages, a file for each; every form works without JavaScript (POST, then 303)."""
