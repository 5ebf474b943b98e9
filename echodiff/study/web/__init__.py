"""Web application of the reader study: pages for readers, annotators and the organiser."""
