"""sightrank: a self-hosted visual search server that speaks the Clarifai v2 API."""
