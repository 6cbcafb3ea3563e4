"""Serving room: the local REST server (a development double), the client of any TensorFlow Serving address."""
