# /// script
# dependencies = ["trl"]
