"""What this server hosts, in calls about another app: what a key may read, it may predict on, search by, and add.

Of what it may not read it learns nothing: that fails as what is not there.
"""

from __future__ import annotations

from dataclasses import replace

from sightrank.api.call import Call
from sightrank.api.identity import Identity
from sightrank.errors import DoesNotExist, InputFailed, InputOverLimit
from sightrank.ingest.intake import NewInput
from sightrank.ingest.media import HostedUrls, ImageSource
from sightrank.search.query import ImageTerm, Query, Rank, Term


class HostedAccess:
    """Finds the app whose hosted pictures a URL in a call may name."""

    def __init__(self, identity: Identity, urls: HostedUrls, images: ImageSource) -> None:
        self._identity = identity
        self._urls = urls
        self._images = images

    async def bucket(self, call: Call, url: str) -> int:
        """Of the app that hosts the URL, if that is another one which the key may read; else of the app of the call."""
        own = call.require_app()
        hosted = self._urls.parse(url)
        if hosted is None or (hosted.user_id, hosted.app_id) == (own.user_id, own.app_id):
            return own.bucket
        other = await self._identity.app_to_read(call.require_caller(), hosted.user_id, hosted.app_id)
        return own.bucket if other is None else other.bucket

    async def searched(self, call: Call, query: Query) -> Query:
        """The query, its images to be read where they are."""
        return replace(query, ranks=tuple([await self._ranked(call, rank) for rank in query.ranks]))

    async def added(self, call: Call, item: NewInput) -> NewInput:
        """The input, with a copy of what another app hosts: workers have no key to read there by."""
        own = call.require_app().bucket
        bucket = await self.bucket(call, item.url) if item.url else own
        if bucket == own:
            return item
        try:
            return replace(item, blob=await self._images.copied(bucket, item.url, to=own))
        except (InputFailed, InputOverLimit, DoesNotExist):
            return item  # no such image: it ends as whatever cannot be fetched

    async def _ranked(self, call: Call, rank: Rank) -> Rank:
        return replace(rank, terms=tuple([await self._term(call, term) for term in rank.terms]))

    async def _term(self, call: Call, term: Term) -> Term:
        if not isinstance(term, ImageTerm) or not term.url:
            return term
        return replace(term, bucket=await self.bucket(call, term.url))
