"""One job: from one file to one file, resumable at every part."""
