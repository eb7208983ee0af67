"""Read frames from files, with their exact times."""
