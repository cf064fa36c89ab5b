"""What an application needs beside an engine: the contract, priors as files, decoders."""
