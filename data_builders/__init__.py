"""One folder a data set: from the files of its owner to video records."""
