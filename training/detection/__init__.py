"""How the bundle `detection` is made: an object detector trained from nothing but photos and a teacher's boxes."""
