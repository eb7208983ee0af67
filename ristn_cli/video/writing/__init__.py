"""Write frames to files: encoders, image sequences, Y4M."""
