"""The command line: parse, call, print. Heavy libraries are imported inside the verbs: `bsq --help` is instant."""
