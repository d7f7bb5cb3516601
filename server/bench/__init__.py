"""`rhapsode bench`: what a machine can do, measured over HTTP from outside the server."""
