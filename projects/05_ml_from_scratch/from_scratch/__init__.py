"""from_scratch: machine learning with the libraries' insides written out, one file per idea."""
