"""Training of networks: recipes, data, losses, and the loop that is resumable at any step."""
