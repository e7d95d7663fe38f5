"""Hosted images: the originals of inputs and their thumbnails, for whoever may read the input."""

from __future__ import annotations

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api.call import Authenticate
from sightrank.errors import CredentialMissing, DoesNotExist
from sightrank.ingest.media import HostedImage
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.vision.thumbnail import Media, MediaSizes

_SQL = queries.load("inputs")


class HostedMedia:
    """Serves what ``image.hosted`` and the ``image.url`` of uploads point to."""

    def __init__(self, database: Database, authenticate: Authenticate, sizes: MediaSizes) -> None:
        self._database = database
        self._authenticate = authenticate
        self._sizes = sizes

    async def read(self, credential: str | None, image: HostedImage, request_id: str) -> Media:
        """The file. Without a credential it does not exist; with a wrong one KeyInvalid (api-spec 3.1)."""
        ids = resources_pb2.UserAppIDSet(user_id=image.user_id, app_id=image.app_id)
        request = service_pb2.GetInputRequest(user_app_id=ids, input_id=image.input_id)
        try:
            call = await self._authenticate("GetInput", credential, request, request_id)
        except CredentialMissing as error:
            raise DoesNotExist(
                "There is no such image, or it needs the header `Authorization: Key <your key>`."
            ) from error
        bucket = call.require_app().bucket
        row = await self._database.row(_SQL["media"], {"bucket": bucket, "id": image.input_id})
        if row is None or not row[0]:
            raise DoesNotExist(f"Input {image.input_id!r} has no hosted file.")
        return await self._sizes.media(row[0], image.size)
