"""Steps as a machine runs them: graphs loaded, bound by address, recorded, measured, diagnosed."""
