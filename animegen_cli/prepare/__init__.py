"""Pictures in folders, archives and tables -> one data set file."""
