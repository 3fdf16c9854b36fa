"""serve.py FOLDER PORT: Superset whose metadata are in a folder, in one process, so that a signal to it is a signal to all of it."""
import sys

from superset.app import create_app
from werkzeug.serving import WSGIRequestHandler, run_simple

WSGIRequestHandler.protocol_version = "HTTP/1.1"
run_simple("127.0.0.1", int(sys.argv[2]), create_app(), threaded=True)
