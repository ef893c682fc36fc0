"""Tables of the paper for any system on any data. What enters: systems, data, a protocol. What leaves: results."""
