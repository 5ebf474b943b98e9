"""Blinded reader study: plan, store, web application, export and analysis."""
