"""Gate and norm of the channel mixer."""
