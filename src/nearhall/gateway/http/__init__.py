"""Requests over HTTP: the connection, the routes of both protocols, the short way of tensor requests, the control socket."""
