"""Tables that set systems side by side. What enters: folders of pictures. What leaves: reports, and their files."""
