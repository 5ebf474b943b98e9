"""What a scanner draws on its screen around and over the sector."""
