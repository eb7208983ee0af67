"""Pictures or videos of one scene side by side: a page, a strip, a clip."""
