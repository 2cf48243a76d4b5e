"""Reading, checking, fetching and writing files with weights."""
