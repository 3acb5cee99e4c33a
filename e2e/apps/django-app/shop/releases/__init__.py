"""Each directory has the migrations of one release; a later one has those of the ones before as well."""
