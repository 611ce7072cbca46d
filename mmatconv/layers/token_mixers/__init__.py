"""Every token mixer but ATConv, one file each."""
