"""The DeCRED network: E-Branchformer encoder, Transformer decoder with classifiers, CTC head and losses."""
