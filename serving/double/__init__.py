"""Development double of TensorFlow Serving's REST API: SavedModel folders in, the server's JSON out.

This is not TensorFlow Serving. It answers as release 2.16 does so that a pushed model, a client or a test can be tried
on a machine without that binary; `serving/README.md` lists what differs. Modules, in the order a request meets them:
`app` (ASGI), `routes` (paths and verbs), `json_reader`, `tensors` / `examples` (JSON to tensors), `versions` (which
version answers), `model` (one loaded SavedModel), `outputs`, `json_writer`; beside them `config`, `monitoring_config`,
`options`, `folders`, `loading`, `warmup`, `metadata`, `metrics`, `listening`.
"""
