"""Every change that mmatconv makes to another package's behaviour, one file each."""
