"""Video codecs at equal bytes. What enters: videos, codecs, models. What leaves: reports, and their files."""
