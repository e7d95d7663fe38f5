"""`make demo`: a server of its own, real photographs, the seven searches of the guide, one contact sheet each.

Everything here is an ordinary client: it starts the `sightrank` program, reads the credentials that program wrote, and
talks to it through the official Python client and through plain REST. Nothing reaches into the server.

    photos    which photographs, under which ids
    server    starts and stops `sightrank serve`
    client    the few API calls a program needs, over gRPC and over REST
    searches  the seven searches and what must be true of their answers
    runner    indexes, labels, searches, checks
    report    what is printed
"""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot go on. The text says why and what to do."""
