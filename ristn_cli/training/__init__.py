"""Training of networks: recipes, data, losses, and a loop that can resume at any step."""
