"""A job turns one source into one output. It can be resumed after every part."""
